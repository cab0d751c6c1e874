#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genkan::fuzzing::run("nameko_reply", data));
