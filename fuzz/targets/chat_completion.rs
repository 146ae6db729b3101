//! The body of `POST /v1/chat/completions`: a valid request or a 400, never anything else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openai_api::parse_chat_completion;

fuzz_target!(|body: &[u8]| {
    match parse_chat_completion(body) {
        Ok(parsed) => assert_eq!(parsed.request.validate(), Ok(())),
        Err(error) => assert_eq!(error.status, 400, "{error}"),
    }
});
