#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmfab::store::fuzzing::session(bytes));
