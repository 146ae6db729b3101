//! A peer of a later version is understood as far as it can be: unknown fields are ignored, unknown variants say so.

use crate::chat::ResponseFormat;
use crate::limits::CLIENT_FRAME_BYTES_MAX;
use crate::{
    Answer, Capabilities, ChatRequest, ClientToRelay, ErrorCode, FinishReason, JobRequest,
    NodeClass, NodeToRelay, PieceKind, ReasoningEffort, RelayToClient, RelayToNode, Role,
    ToolChoice, decode,
};

const MAX: usize = CLIENT_FRAME_BYTES_MAX;
const JOB: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

#[test]
fn an_unknown_message_decodes_to_unknown_in_every_direction() {
    for text in [
        r#"{"type":"renegotiate"}"#,
        r#"{"type":"renegotiate","job":17,"more":{"deep":[1,null]}}"#,
        r#"{"more":1,"type":""}"#,
    ] {
        assert_eq!(decode(text, MAX), Ok(ClientToRelay::Unknown), "{text}");
        assert_eq!(decode(text, MAX), Ok(RelayToClient::Unknown), "{text}");
        assert_eq!(decode(text, MAX), Ok(NodeToRelay::Unknown), "{text}");
        assert_eq!(decode(text, MAX), Ok(RelayToNode::Unknown), "{text}");
    }
}

#[test]
fn unknown_words_inside_a_message_decode_to_unknown() {
    assert_eq!(decode(r#""archive""#, MAX), Ok(NodeClass::Unknown));
    assert_eq!(decode(r#""narrator""#, MAX), Ok(Role::Unknown));
    assert_eq!(
        decode(r#"{"kind":"dream","of":[]}"#, MAX),
        Ok(JobRequest::Unknown)
    );
    assert_eq!(
        decode(r#"{"mode":"sometimes"}"#, MAX),
        Ok(ToolChoice::Unknown)
    );
    assert_eq!(decode(r#""extreme""#, MAX), Ok(ReasoningEffort::Unknown));
    assert_eq!(
        decode(r#""content_filter""#, MAX),
        Ok(FinishReason::Unknown)
    );
    assert_eq!(decode(r#""out_of_luck""#, MAX), Ok(ErrorCode::Unknown));
    assert_eq!(decode(r#""citation""#, MAX), Ok(PieceKind::Unknown));
    assert_eq!(
        decode(r#"{"type":"xml","schema":{}}"#, MAX),
        Ok(ResponseFormat::Unknown)
    );
}

#[test]
fn unknown_fields_are_ignored_at_every_depth() {
    let text = format!(
        r#"{{"later":[],"type":"submit","job":"{JOB}","model":"light","request":{{"kind":"chat","later":1,
        "messages":[{{"role":"user","content":"hi","later":null}}],
        "sampling":{{"later":{{}}}},"response_format":{{"type":"text","later":0}}}}}}"#
    );
    let Ok(ClientToRelay::Submit { model, request, .. }) = decode(&text, MAX) else {
        panic!("not a submit");
    };
    assert_eq!(model, "light");
    assert_eq!(request.as_chat().unwrap().messages[0].content, "hi");
    let unit = r#"{"type":"ping","later":true}"#;
    assert_eq!(decode(unit, MAX), Ok(ClientToRelay::Ping));
}

#[test]
fn a_carried_answer_of_a_later_version_is_read_but_cannot_be_continued() {
    let text = r#"{"later":0,"model":null,"pieces":[{"kind":"citation","text":"x","later":[]}]}"#;
    let answer: Answer = decode(text, MAX).unwrap();
    assert_eq!(answer.model, None);
    assert_eq!(answer.bytes(), 1);
    assert!(answer.validate().is_err());
}

#[test]
fn a_node_that_names_no_abilities_has_none() {
    let text = r#"{"type":"hello","name":"n","class":"rig","software":"s","slots":1,"models":[
        {"model":"m","runtime":"r","context_tokens":1,"capabilities":{"seed":true,"telepathy":true}}]}"#;
    let Ok(NodeToRelay::Hello { models, .. }) = decode(text, MAX) else {
        panic!("not a hello");
    };
    let expected = Capabilities {
        seed: true,
        ..Capabilities::default()
    };
    assert_eq!(models[0].capabilities, expected);
}

#[test]
fn a_known_message_with_a_wrong_field_is_malformed_and_not_unknown() {
    for text in [
        r#"{"type":"cancel"}"#,
        r#"{"type":"cancel","job":7}"#,
        r#"{"type":"acknowledge","job":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","offset":-1}"#,
        r#"{"type":"acknowledge","job":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","offset":4294967296}"#,
        r#"{"type":"acknowledge","job":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","offset":0,"whole":1}"#,
        r#"{"type":"resume","job":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","ticket":"t","attempt":1,"offset":0,"tokens":0,"hash":"00","model":"m","request":{"kind":"chat","messages":[]}}"#,
        r#"{"type":7}"#,
        r#"{"job":"0f1e2d3c4b5a69788796a5b4c3d2e1f0"}"#,
        r#"{"type":"ping"} {"type":"ping"}"#,
        "null",
        "",
    ] {
        assert!(decode::<ClientToRelay>(text, MAX).is_err(), "{text}");
    }
}

#[test]
fn numbers_keep_their_kind_inside_a_tagged_message() {
    // A tagged enum reads its fields through serde's buffer, where integers and floats could lose their kind.
    let text = format!(
        r#"{{"request":{{"kind":"chat","messages":[],"sampling":{{"temperature":1,"top_p":0.1,"seed":18446744073709551615,
        "logit_bias":[{{"token":4294967295,"bias":-100}},{{"token":0,"bias":0.30000001192092896}}]}}}},
        "model":"m","job":"{JOB}","type":"submit"}}"#
    );
    let Ok(ClientToRelay::Submit { request, .. }) = decode(&text, MAX) else {
        panic!("not a submit");
    };
    let sampling = request.as_chat().unwrap().sampling.clone();
    assert_eq!(sampling.temperature, Some(1.0));
    assert_eq!(sampling.top_p, Some(0.1));
    assert_eq!(sampling.seed, Some(u64::MAX));
    assert_eq!(sampling.logit_bias[0].token, u32::MAX);
    assert!((sampling.logit_bias[0].bias + 100.0).abs() < f32::EPSILON);
    assert!((sampling.logit_bias[1].bias - 0.3).abs() < f32::EPSILON);
}

#[test]
fn a_schema_keeps_keys_that_look_like_numbers() {
    let text = r#"{"messages":[],"response_format":{"type":"json_schema","schema":{"properties":{"1":{"const":1.5}}}}}"#;
    let request: ChatRequest = decode(text, MAX).unwrap();
    let ResponseFormat::JsonSchema { schema } = request.response_format else {
        panic!("not a schema");
    };
    assert_eq!(schema["properties"]["1"]["const"], 1.5);
}
