//! Reports in a real browser.

use std::path::PathBuf;

use super::super::cli::Bench;
use super::super::support::{Browser, Synthetic};

fn written(bench: &Bench, build: &Synthetic) -> PathBuf {
    build.record(bench.home.path());
    let file = bench.home.path().join("report.html");
    let path = file.to_str().unwrap();
    bench
        .run(["report", build.id, "--output", path])
        .ends_with(0);
    file
}

#[test]
fn a_step_is_clicked_and_nothing_hostile_happens() {
    let bench = Bench::new();
    let file = written(&bench, &Synthetic::hostile());
    let browser = Browser::start(1280, 800);
    browser.open(&file);
    assert_eq!(browser.text("#outcome"), "failed");
    assert!(
        browser
            .text("#image")
            .starts_with("evil </script><img src=x")
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('.node').length"),
        7
    );

    // A step whose name and parameters are markup.
    browser.click(".node[data-step='1']");
    let details = browser.text("#details");
    assert!(
        details.contains("evil: run </script><img src=x"),
        "{details}"
    );
    for part in [
        "Why it ran",
        "command was \"old\"",
        "Output",
        "window.pwned=1",
        "Read by",
    ] {
        assert!(details.contains(part), "{part}:\n{details}");
    }
    // From there to a step that reads it, and to the one that failed.
    browser.click("#details .link[data-step='2']");
    assert!(browser.text("#details h2").contains("quiet"));
    browser.type_into("#search", "broken");
    assert_eq!(browser.text("#hits"), "1 hit");
    browser.type_into("#search", "\u{e007}");
    assert_eq!(browser.text("#details h2"), "evil: run broken");
    assert!(browser.text("#details").contains("make: *** [all] Error 2"));
    assert_eq!(
        browser.run("return document.querySelectorAll('.node.dim').length"),
        6
    );

    browser.click("#tab-timeline");
    assert!(
        browser
            .text("#times")
            .contains("Critical path: 4 steps, 4.0 s")
    );
    assert!(
        browser
            .text("#saved")
            .contains("More jobs would have saved nothing")
    );
    browser.click("#tab-why");
    assert!(browser.text("#reasons").contains("evil: run broken"));
    assert!(!browser.text("#reasons").contains("evil: packages nginx"));
    browser.click("#tab-sizes");
    browser.click("#tab-checks");
    assert!(browser.text("#checked").contains("syntax is ok"));

    let pwned = browser.run("return [window.pwned, document.querySelectorAll('main img').length]");
    assert_eq!(pwned, serde_json::json!([null, 0]));
    assert_eq!(browser.run("return document.scripts.length"), 2);
    browser.is_quiet_about(&file);
}

#[test]
fn the_theme_is_switched_and_the_page_is_printed() {
    let bench = Bench::new();
    let file = written(&bench, &Synthetic::hostile());
    let browser = Browser::start(400, 800);
    browser.open(&file);
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let first = browser.run(ground);
    browser.click("#theme");
    let second = browser.run(ground);
    assert_ne!(first, second);
    // It is remembered, and the other way round it is as before.
    browser.open(&file);
    assert_eq!(browser.run(ground), second);
    browser.click("#theme");
    assert_eq!(browser.run(ground), first);
    // A phone does not scroll sideways.
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    assert!(browser.run(wide).as_i64().unwrap() <= 0);

    let pdf = browser.print();
    assert!(
        pdf.starts_with("JVBERi0") && pdf.len() > 10_000,
        "{} bytes",
        pdf.len()
    );
    // Everything was shown for that, and the screen is as before.
    assert_eq!(
        browser.run("return document.querySelectorAll('#checked .card').length"),
        1
    );
    assert_eq!(
        browser.run("return document.getElementById('canvas').hasAttribute('viewBox')"),
        false
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('section.on').length"),
        1
    );
    browser.is_quiet_about(&file);
}

#[test]
fn five_thousand_steps_open_and_move() {
    let bench = Bench::new();
    let file = written(&bench, &Synthetic::large());
    let browser = Browser::start(1280, 800);
    browser.open(&file);
    assert!(browser.text("#tiles").contains("5,000"));
    browser.type_into("#search", "image-77 disk");
    assert_eq!(browser.text("#hits"), "1 hit");
    browser.type_into("#search", "\u{e007}");
    assert!(browser.text("#details h2").starts_with("image-77: disk"));
    // Near by, only what is seen is there.
    let boxes = browser.run("return document.querySelectorAll('.node').length");
    assert!((1..900).contains(&boxes.as_i64().unwrap()), "{boxes}");
    let frames = browser.wait(
        "document.getElementById('whole').click();
         const canvas = document.getElementById('canvas');
         let left = 30;
         const turn = () => {
             canvas.dispatchEvent(new WheelEvent('wheel',
                 { deltaY: left % 2 ? 60 : -60, clientX: 600, clientY: 500, cancelable: true }));
             if (left-- > 0) return requestAnimationFrame(turn);
             done(30);
         };
         requestAnimationFrame(turn);",
    );
    assert_eq!(frames, 30);
    browser.is_quiet_about(&file);
}
