//! Rectangles as large as what they stand for, as SVG without a script.
//!
//! Source: M. Bruls, K. Huizing, J. J. van Wijk, "Squarified Treemaps", 2000.

use super::Html;

/// The picture's size in its own units; it is scaled to the page.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 560.0;
/// The height of a name above what is in a tile.
const HEADING: f64 = 18.0;
/// About the width of a letter, for what fits.
const LETTER: f64 = 7.5;
/// Tiles of a smaller side are not drawn.
const SMALLEST: f64 = 2.0;
/// Colours of the theme.
const HUES: [&str; 6] = ["hue-1", "hue-2", "hue-3", "hue-4", "hue-5", "hue-6"];

/// Something with a size, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tile {
    pub label: String,
    /// What is shown when one points at it.
    pub title: String,
    pub size: u64,
    pub below: Vec<Self>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws tiles, the largest first; each has a colour, and those in it have the same one.
#[must_use]
pub fn treemap(tiles: &[Tile], label: &str) -> Html {
    let mut html = Html::new();
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    html.open(
        "svg",
        &[
            ("class", &"treemap"),
            ("viewBox", &view),
            ("role", &"img"),
            ("aria-label", &label),
        ],
    );
    let area = Area {
        x: 0.0,
        y: 0.0,
        width: WIDTH,
        height: HEIGHT,
    };
    for (number, (tile, area)) in placed(tiles, area).into_iter().enumerate() {
        draw(&mut html, tile, area, HUES[number % HUES.len()], 0);
    }
    html.close("svg");
    html
}

fn draw(html: &mut Html, tile: &Tile, area: Area, hue: &str, depth: usize) {
    if area.width < SMALLEST || area.height < SMALLEST {
        return;
    }
    html.markup("<g>").element("title", &tile.title);
    let class = format!("{hue} depth-{}", depth.min(3));
    let number = |value: f64| format!("{value:.1}");
    html.open(
        "rect",
        &[
            ("class", &class),
            ("x", &number(area.x)),
            ("y", &number(area.y)),
            ("width", &number(area.width)),
            ("height", &number(area.height)),
        ],
    )
    .close("rect");
    let room = ((area.width - 8.0) / LETTER).max(0.0) as usize;
    let labelled = room >= 3 && area.height >= HEADING;
    if labelled {
        let (x, y) = (number(area.x + 4.0), number(area.y + 13.0));
        html.open("text", &[("x", &x), ("y", &y)])
            .text(shortened(&tile.label, room))
            .close("text");
    }
    html.markup("</g>");
    let above = if labelled { HEADING } else { 1.0 };
    let inside = Area {
        x: area.x + 1.0,
        y: area.y + above,
        width: area.width - 2.0,
        height: area.height - above - 1.0,
    };
    if inside.width > 12.0 && inside.height > 12.0 {
        for (below, area) in placed(&tile.below, inside) {
            draw(html, below, area, hue, depth + 1);
        }
    }
}

/// A text of at most so many letters.
fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() {
        count if count <= most => text.to_owned(),
        _ => text.chars().take(most - 1).chain(['\u{2026}']).collect(),
    }
}

/// The tiles with their areas: in rows along the shorter side, as square as the next tile allows.
fn placed(tiles: &[Tile], mut area: Area) -> Vec<(&Tile, Area)> {
    let mut tiles: Vec<&Tile> = tiles.iter().filter(|tile| tile.size > 0).collect();
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.size));
    let total: f64 = tiles.iter().map(|tile| tile.size as f64).sum();
    let scale = area.width * area.height / total.max(1.0);
    let mut placed = Vec::new();
    let mut rest = tiles.as_slice();
    while !rest.is_empty() {
        let side = area.width.min(area.height);
        let mut count = 1;
        while count < rest.len()
            && worst(&rest[..=count], side, scale) <= worst(&rest[..count], side, scale)
        {
            count += 1;
        }
        let (row, others) = rest.split_at(count);
        rest = others;
        let sum: f64 = row.iter().map(|tile| tile.size as f64 * scale).sum();
        let thickness = if side > 0.0 { sum / side } else { 0.0 };
        let mut at = 0.0;
        for &tile in row {
            let length = if thickness > 0.0 {
                tile.size as f64 * scale / thickness
            } else {
                0.0
            };
            placed.push((
                tile,
                match area.width >= area.height {
                    true => Area {
                        x: area.x,
                        y: area.y + at,
                        width: thickness,
                        height: length,
                    },
                    false => Area {
                        x: area.x + at,
                        y: area.y,
                        width: length,
                        height: thickness,
                    },
                },
            ));
            at += length;
        }
        match area.width >= area.height {
            true => {
                area.x += thickness;
                area.width = (area.width - thickness).max(0.0);
            }
            false => {
                area.y += thickness;
                area.height = (area.height - thickness).max(0.0);
            }
        }
    }
    placed
}

/// How far from a square the worst tile of a row is.
fn worst(row: &[&Tile], side: f64, scale: f64) -> f64 {
    let areas = row.iter().map(|tile| tile.size as f64 * scale);
    let (mut sum, mut least, mut most) = (0.0, f64::MAX, 0.0_f64);
    for area in areas {
        sum += area;
        least = least.min(area);
        most = most.max(area);
    }
    let side = side * side;
    (side * most / (sum * sum)).max(sum * sum / (side * least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(sizes: &[u64]) -> Vec<Tile> {
        let tile = |size: &u64| Tile {
            label: format!("<{size}>"),
            size: *size,
            ..Tile::default()
        };
        sizes.iter().map(tile).collect()
    }

    #[test]
    fn areas_are_as_large_as_sizes_and_inside() {
        let whole = Area {
            x: 10.0,
            y: 20.0,
            width: 600.0,
            height: 400.0,
        };
        for sizes in [
            &[6, 6, 4, 3, 2, 2, 1][..],
            &[1],
            &[1000, 1, 1],
            &[0, 0],
            &[],
        ] {
            let tiles = tiles(sizes);
            let total: u64 = sizes.iter().sum();
            let mut covered = 0.0;
            for (tile, area) in placed(&tiles, whole) {
                let expected = 240_000.0 * tile.size as f64 / total as f64;
                assert!(
                    (area.width * area.height - expected).abs() < 0.01,
                    "{area:?}"
                );
                assert!(area.x >= 10.0 && area.y >= 20.0, "{area:?}");
                assert!(area.x + area.width <= 610.01 && area.y + area.height <= 420.01);
                covered += area.width * area.height;
            }
            assert!(total == 0 || (covered - 240_000.0).abs() < 0.1);
        }
    }

    #[test]
    fn names_are_escaped_and_fit() {
        let map = treemap(&tiles(&[100, 1]), "sizes").to_string();
        assert!(
            map.contains("&lt;100&gt;") && !map.contains("<100>"),
            "{map}"
        );
        assert_eq!(shortened("abcdef", 4), "abc\u{2026}");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
