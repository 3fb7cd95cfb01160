//! AMF0: what decodes encodes, and decodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use punchcast::rtmp::amf0::Decoder;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new(data);
    while let Ok(Some(value)) = decoder.value() {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let again = Decoder::new(&bytes).value();
        // Not every number equals itself, so texts are compared.
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(Some(value))));
    }
});
