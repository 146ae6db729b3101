//! Every length that a peer can choose has a limit here, with its reason.

/// A control frame from a client. Long documents pass: it is about 250,000 tokens. Reading JSON can take sixteen times
/// its length in memory, and a pool has 128 MB; images will be binary frames.
pub const CLIENT_FRAME_BYTES_MAX: usize = 1 << 20;

/// An HTTP request's body: a client frame less what the translation may add (a field's default here, a longer form of
/// `logit_bias` there).
pub const HTTP_BODY_BYTES_MAX: usize = CLIENT_FRAME_BYTES_MAX - (64 << 10);

/// A frame of a peer that has not said who it is: a key or a node's `hello`.
pub const STRANGER_FRAME_BYTES_MAX: usize = 16 << 10;

/// A control frame from a node. The largest is `hello` with all its models.
pub const NODE_FRAME_BYTES_MAX: usize = 256 << 10;

/// A control frame from the relay to a node carries a whole request and the answer so far: its text, escaped, and a
/// number per token.
pub const RELAY_FRAME_BYTES_MAX: usize = 4 << 20;
/// Text of an answer that a control frame carries, so that another node can go on with it: more than the longest
/// context of the models in use, and what a pool can afford to keep of each running job.
pub const CARRIED_BYTES_MAX: usize = 256 << 10;
/// Tokens of such an answer.
pub const CARRIED_TOKENS_MAX: usize = 64 << 10;
/// Pieces of such an answer: a new one begins only where the kind changes.
pub const CARRIED_PIECES_MAX: usize = 16 << 10;
/// A ticket; peers need not read it.
pub const TICKET_BYTES_MAX: usize = 1024;
/// Answers that a node announces after a reconnection: what its slots were busy with, and whole ones that nobody has
/// acknowledged yet.
pub const ANNOUNCES_MAX: u32 = 1024;
/// The longest time for which a node may be asked to gather deltas: what a reader does not notice.
pub const MERGE_MS_MAX: u64 = 50;

/// A token frame. One decode step is a few hundred bytes; merged or resent text may be larger.
pub const TOKEN_FRAME_BYTES_MAX: usize = 1 << 20;

/// Entries in one token frame: more than the slots of any node.
pub const ENTRIES_MAX: usize = 1024;

/// Token ids in one entry.
pub const ENTRY_TOKENS_MAX: usize = 16_384;

/// Answer bytes in one entry.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Bytes of one answer, all kinds together. A node keeps this much per unacknowledged job at most.
pub const ANSWER_BYTES_MAX: u32 = 16 << 20;

/// Answer bytes that a client may leave unacknowledged before it must say where it is.
pub const ACKNOWLEDGE_BYTES: u32 = 4 << 10;
/// Answer bytes that a client acknowledges at once, however short ago the last time was: a quarter of the window.
pub const ACKNOWLEDGE_BYTES_AT_ONCE: u32 = 16 << 10;

/// Messages in one conversation.
pub const MESSAGES_MAX: usize = 4096;

/// Stop strings in one request. `OpenAI` allows 4; other servers more.
pub const STOPS_MAX: usize = 16;

/// Bytes of one stop string: a node holds this much text back.
pub const STOP_BYTES_MAX: usize = 256;

/// Entries of `logit_bias`. `OpenAI` names no number; its own limit of 1,024 was seen.
pub const LOGIT_BIASES_MAX: usize = 1024;

/// Alternatives told for each token; `OpenAI`'s limit.
pub const TOP_LOGPROBS_MAX: u8 = 20;

/// Bytes of a JSON schema: its grammar is compiled on the node for each request.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// Levels of a JSON schema. Readers of JSON stop at 128, and the frame around it takes a few.
pub const SCHEMA_DEPTH_MAX: usize = 64;

/// Tools that one request offers; `OpenAI`'s limit.
pub const TOOLS_MAX: usize = 128;
/// Bytes of all tools of a request: they stand in the prompt, and grammars are made of them.
pub const TOOLS_BYTES_MAX: usize = 256 << 10;
/// Bytes of a tool's name; `OpenAI`'s limit.
pub const TOOL_NAME_BYTES_MAX: usize = 64;
/// Calls in one message: more than a model asks for in one turn, unless it runs in circles.
pub const TOOL_CALLS_MAX: usize = 128;
/// Bytes of a tool call's id, which is whatever another server may have chosen.
pub const TOOL_CALL_ID_BYTES_MAX: usize = 128;

/// Pictures in one request: each costs a node hundreds of tokens and a run of the vision model.
pub const IMAGES_MAX: usize = 16;

/// Texts in one request for embeddings; `OpenAI`'s limit.
pub const EMBED_INPUTS_MAX: usize = 2048;

/// Beginnings of conversations that a node says it has in its cache. One that has hundreds of conversations can have
/// more, since each is known by the names of its turns: then it says those that were used last.
pub const CACHED_PREFIXES_MAX: usize = 512;

/// Bytes of a model's, tier's or node's name.
pub const NAME_BYTES_MAX: usize = 96;

/// Bytes of a key in a first frame.
pub const KEY_BYTES_MAX: usize = 256;

/// Models that one node offers.
pub const NODE_MODELS_MAX: usize = 64;

/// Slots of one node.
pub const NODE_SLOTS_MAX: u32 = 256;

/// Bytes of a human sentence in a [`crate::Failure`].
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;

/// A peer that has not said who it is by then is closed.
pub const HELLO_MS_MAX: u64 = 5_000;
