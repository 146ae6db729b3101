//! Faults on demand, for tests only: a relay that is deployed is built without this file.

use wasm_bindgen::{JsCast, JsValue};
use worker::{Error, Result, State};

/// Ends this object as the platform does when it moves or breaks one: memory and sockets go, storage stays.
///
/// The platform unwinds whoever asks for it, without a chance to clear up. All objects share one instance of this
/// program, so the asking is left to a timer that calls the platform directly, with nothing of ours on the stack.
pub(crate) fn abort_soon(state: &State) -> Result<()> {
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
