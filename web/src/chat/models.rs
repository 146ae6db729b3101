//! `GET /v1/models`: which tiers there are, and how many nodes serve them now.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{RequestInit, Response};

use super::Chat;
use crate::browser;
use crate::state::Action;
use crate::tiers::Catalog;

/// How old the number of nodes may get on a page that somebody looks at.
const FRESH: Duration = Duration::from_secs(10);

enum Answer {
    Catalog(Catalog),
    Unauthorized,
    Unreachable,
}

impl Chat {
    pub(super) fn keep_catalog_fresh(&self) {
        let chat = *self;
        chat.load_catalog();
        set_interval(
            move || {
                if browser::is_visible() {
                    chat.load_catalog();
                }
            },
            FRESH,
        );
    }

    /// Asks who is there now.
    pub(crate) fn load_catalog(&self) {
        let chat = *self;
        spawn_local(async move {
            match fetch().await.unwrap_or(Answer::Unreachable) {
                Answer::Catalog(catalog) => chat.take_catalog(catalog),
                Answer::Unauthorized => {
                    chat.hub.with_value(|hub| hub.connection.clone()).want_key();
                }
                // The socket's state says it better.
                Answer::Unreachable => {}
            }
        });
    }

    fn take_catalog(&self, catalog: Catalog) {
        let chosen = self
            .state
            .with_untracked(|state| state.tier().map(str::to_owned));
        let picked = chosen.clone().or_else(|| browser::load(browser::TIER));
        let tier = catalog
            .default_tier(picked.as_deref())
            .map(|tier| tier.id.clone());
        if self
            .catalog
            .with_untracked(|old| old.as_ref() != Some(&catalog))
        {
            self.catalog.set(Some(catalog));
        }
        if let Some(tier) = tier
            && Some(&tier) != chosen.as_ref()
        {
            self.dispatch(Action::ChooseTier(tier));
        }
    }
}

/// The list as it was when this browser saw it last, so that models have their names from the start.
pub(super) fn kept() -> Option<Catalog> {
    browser::load(browser::MODELS)
        .and_then(|body| Catalog::read(&body))
        .map(Catalog::without_nodes)
}

async fn fetch() -> Result<Answer, JsValue> {
    let options = RequestInit::new();
    if let Some(key) = browser::key() {
        let headers = web_sys::Headers::new()?;
        headers.set("Authorization", &format!("Bearer {key}"))?;
        options.set_headers(&headers);
    }
    let answer = JsFuture::from(window().fetch_with_str_and_init("/v1/models", &options)).await?;
    let response: Response = answer.dyn_into()?;
    if response.status() == 401 {
        return Ok(Answer::Unauthorized);
    }
    let body = JsFuture::from(response.text()?).await?;
    let body = body.as_string().unwrap_or_default();
    let Some(catalog) = Catalog::read(&body) else {
        return Ok(Answer::Unreachable);
    };
    browser::save(browser::MODELS, &body);
    Ok(Answer::Catalog(catalog))
}
