//! The test vectors of chunking: `store-format/vectors/v1/chunking.json`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::store::content::ingest::list_of;

#[derive(Deserialize)]
struct Case {
    name: String,
    parts: Vec<Part>,
    length: usize,
    object: String,
    chunks: Vec<(u64, u32, String)>,
}

/// A part of the content, as `store-format/vectors/v1/README.md` says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Noise {
        noise: u64,
        length: usize,
    },
    Byte {
        byte: u8,
        length: usize,
    },
    Hex {
        hex: String,
    },
    Times {
        times: usize,
        parts: Vec<Part>,
    },
    Header {
        header: String,
        #[serde(rename = "type")]
        kind: char,
    },
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Noise { noise, length } => super::tests::noise(*noise, *length),
            Self::Byte { byte, length } => vec![*byte; *length],
            Self::Hex { hex } => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
            Self::Times { times, parts } => content(parts).repeat(*times),
            Self::Header { header, kind } => {
                let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| c as u8).collect() };
                let mut record = vec![0; 512];
                record[..6].copy_from_slice(b"member");
                record[124..136].copy_from_slice(&latin(header));
                record[156] = *kind as u8;
                record[257..262].copy_from_slice(b"ustar");
                record
            }
        }
    }
}

fn content(parts: &[Part]) -> Vec<u8> {
    parts.iter().flat_map(Part::bytes).collect()
}

#[test]
fn content_is_cut_as_in_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("store-format/vectors/v1/chunking.json");
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let mut content = content(&case.parts);
        content.truncate(case.length);
        assert_eq!(content.len(), case.length, "{}", case.name);
        let list = list_of(&content);
        let chunks: Vec<(u64, u32, String)> = list
            .chunks
            .iter()
            .map(|chunk| (chunk.offset, chunk.length, chunk.id.to_hex()))
            .collect();
        assert_eq!(chunks, case.chunks, "{}", case.name);
        assert_eq!(list.id().to_string(), case.object, "{}", case.name);
    }
}
