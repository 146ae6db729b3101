//! Faults on demand, for tests only: a relay that is deployed is built without this file.

use wasm_bindgen::{JsCast, JsValue};
use worker::{Error, Response, Result, State};

use crate::pool::drive::Core;
use crate::reply;

/// What a test may ask of a pool.
pub(crate) fn route(core: &Core, path: &str) -> Result<Response> {
    match path {
        "/fault/abort-pool" => {
            abort_soon(&core.state)?;
            Response::empty()
        }
        // Another number than before: it was evicted in between, or aborted.
        "/fault/pool-since" => Response::ok(core.since.to_string()),
        path => reply::no_such_route(&worker::Method::Get, path),
    }
}

/// Ends this object as the platform does when it moves or breaks one: memory and sockets go, storage stays.
///
/// The platform unwinds whoever asks for it, without a chance to clear up. All objects share one instance of this
/// program, so the asking is left to a timer that calls the platform directly, with nothing of ours on the stack.
fn abort_soon(state: &State) -> Result<()> {
    let state: &JsValue = state.as_raw().as_ref();
    let abort = function(state, "abort")?.bind1(state, &"a test asked for it".into());
    let global = js_sys::global();
    function(&global, "setTimeout")?.call2(&global, &abort, &0.into())?;
    Ok(())
}

fn function(object: &JsValue, name: &str) -> Result<js_sys::Function> {
    js_sys::Reflect::get(object, &name.into())?
        .dyn_into()
        .map_err(|_| Error::from(format!("{name} is no function here")))
}
