//! Content that no URL leads to: who knows the way reads it, and what is here of it is gone on
//! with.

use std::io::{self, Read};
use std::sync::Mutex;

use vmfab::digest::Checksum;
use vmfab::failure::{Failure, Kind};
use vmfab::source::{FetchError, FetchRequest, Origin, Outcome, Source};

use super::{Desk, Kept, noise, sha256};

/// Bytes that come to an end before their end.
#[derive(Default)]
struct Place {
    bytes: Vec<u8>,
    /// After how many bytes an answer fails; the whole when there is none.
    cuts: Mutex<Vec<usize>>,
    /// Where each answer was to begin.
    asked: Mutex<Vec<u64>>,
    /// Gives the whole whatever it is asked for.
    whole: bool,
    local: bool,
}

impl Place {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            ..Self::default()
        }
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn fetch(
        &self,
        desk: &Desk,
        checksum: &Checksum,
        size: usize,
    ) -> (Result<Outcome, FetchError>, Kept) {
        let mut kept = Kept::default();
        let source = Source::elsewhere("oci://registry/x", "layer 1");
        let request = FetchRequest {
            source: &source,
            checksum: Some(checksum),
            size: Some(size as u64),
            already: &|| panic!("nobody was waited for"),
        };
        let result = desk.fetcher().fetch_from(&request, self, &mut kept);
        (result, kept)
    }
}

struct Fails;

impl Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the cable is out"))
    }
}

impl Origin for Place {
    fn open(&self, offset: u64) -> Result<(u64, Box<dyn Read + Send>), Failure> {
        self.asked.lock().unwrap().push(offset);
        let start = if self.whole { 0 } else { offset };
        let rest = self.bytes[usize::try_from(start).unwrap().min(self.bytes.len())..].to_vec();
        Ok((
            start,
            match self.cuts.lock().unwrap().pop() {
                None => Box::new(io::Cursor::new(rest)),
                Some(after) => Box::new(io::Cursor::new(rest[..after].to_vec()).chain(Fails)),
            },
        ))
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::new(Kind::Transient, error.to_string()).with_help("plug it in")
    }

    fn is_local(&self) -> bool {
        self.local
    }
}

const SIZE: usize = 700_000;

#[test]
fn the_next_run_goes_on_where_the_last_one_ended() {
    for whole in [false, true] {
        let (desk, bytes) = (Desk::new(), noise(1, SIZE));
        let mut place = Place::new(&bytes);
        place.whole = whole;
        *place.cuts.lock().unwrap() = vec![400_000];
        let (result, _) = place.fetch(&desk, &sha256(&bytes), SIZE);
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "cannot fetch layer 1: the cable is out");
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::Transient, vec!["plug it in".to_owned()])
        );
        assert_eq!(desk.told(), ["started", "failed"]);
        let (result, kept) = place.fetch(&desk, &sha256(&bytes), SIZE);
        assert!(matches!(result, Ok(Outcome::Fetched(_))), "{result:?}");
        assert!(kept.bytes == bytes && kept.finished == 1);
        assert_eq!(kept.restarts, usize::from(whole));
        assert_eq!(place.asked(), [0, 400_000]);
        assert!(desk.left().is_empty(), "{:?}", desk.left());
    }
}

#[test]
fn a_wrong_beginning_is_fetched_again() {
    let (desk, right, wrong) = (Desk::new(), noise(2, SIZE), noise(3, SIZE));
    let place = Place::new(&wrong);
    *place.cuts.lock().unwrap() = vec![300_000];
    place.fetch(&desk, &sha256(&right), SIZE).0.unwrap_err();
    let place = Place::new(&right);
    let (result, kept) = place.fetch(&desk, &sha256(&right), SIZE);
    assert!(result.is_ok(), "{result:?}");
    assert!(kept.bytes == right);
    assert_eq!(place.asked(), [300_000, 0]);
}

#[test]
fn what_is_not_right_is_not_kept() {
    let (desk, right) = (Desk::new(), noise(4, SIZE));
    for (bytes, is_wrong) in [
        (noise(5, SIZE), "found"),
        (noise(4, SIZE - 1), "short"),
        ([right.clone(), vec![1]].concat(), "long"),
    ] {
        for local in [false, true] {
            let mut place = Place::new(&bytes);
            place.local = local;
            let (result, kept) = place.fetch(&desk, &sha256(&right), SIZE);
            let error = result.unwrap_err();
            assert_eq!(error.kind(), Kind::Verification, "{is_wrong}: {error}");
            assert_eq!(kept.finished, 0);
            assert!(desk.left().is_empty(), "{is_wrong}: {:?}", desk.left());
        }
    }
}

#[test]
fn offline_only_what_is_on_this_host_is_read() {
    let (mut desk, bytes) = (Desk::new(), noise(6, SIZE));
    desk.offline = true;
    let mut place = Place::new(&bytes);
    let (result, _) = place.fetch(&desk, &sha256(&bytes), SIZE);
    assert_eq!(result.unwrap_err().kind(), Kind::Unavailable);
    assert!(place.asked().is_empty() && desk.left().is_empty());
    place.local = true;
    let (result, kept) = place.fetch(&desk, &sha256(&bytes), SIZE);
    assert!(result.is_ok() && kept.bytes == bytes);
    assert!(desk.told().is_empty(), "it is no download");
}
