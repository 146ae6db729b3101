//! Answers: the same tokens however they are computed.

use std::collections::BTreeMap;

use super::*;
use crate::gpu::GpuError;
use crate::gpu::Wish;
use crate::gpu::tests::{gpu, open};
use crate::reference::sampling::{Rules, draw, log_probability};
use crate::run::{Drawn, Ended, Request, RunError, Session};

const PROMPT: [u32; 12] = [1, 80, 111, 37, 9, 80, 111, 37, 64, 5, 100, 23];

fn engine(family: Family, context: u32) -> Option<(Arc<Engine>, Vec<u8>)> {
    let gpu = Arc::new(gpu()?);
    let file = bytes(family, QuantType::Q8_0);
    let settings = Settings {
        context_tokens: Some(context),
        ..settings(CacheType::F32, 1)
    };
    let engine = load(&gpu, &file, settings).expect("can be run");
    Some((engine, file))
}

pub(super) fn request(tokens: u32) -> Request {
    Request {
        ignores_end: true,
        ..Request::greedy(PROMPT.to_vec(), tokens)
    }
}

fn drawn(tokens: u32, seed: u64) -> Request {
    Request {
        rules: Rules {
            temperature: 1.5,
            top_k: 50,
            top_p: 0.95,
            frequency_penalty: 0.5,
            ..Rules::default()
        },
        seed,
        ..request(tokens)
    }
}

pub(super) async fn session(engine: &Arc<Engine>) -> Session {
    engine.session().await.expect("fits")
}

pub(super) async fn all(session: &mut Session, request: Request) -> (Vec<u32>, Option<Ended>) {
    let mut answer = session.answer(request, None).await.expect("begins");
    while answer.next().await.expect("goes on").is_some() {}
    (answer.drawn().to_vec(), answer.ended())
}

/// What the CPU draws.
fn expected(file: &[u8], request: &Request) -> Vec<u32> {
    let model = reference::tests::load(file);
    let mut session = model.session(CacheType::F32);
    let width = model.config().vocabulary as usize;
    let mut counts = BTreeMap::new();
    let mut tokens = request.prompt.clone();
    let mut answer = Vec::new();
    for position in 0..request.tokens_max {
        let rows = session.read(&tokens).expect("within the context");
        let row = &rows[rows.len() - width..];
        let candidates = request.rules.candidates(row, &counts);
        let token = draw(request.seed, position, &candidates).expect("a token");
        *counts.entry(token).or_default() += 1;
        answer.push(token);
        tokens = vec![token];
    }
    answer
}

#[test]
fn an_answer_is_what_the_cpu_draws() {
    let Some((engine, file)) = engine(Family::Qwen3, 64) else {
        return;
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        for request in [request(20), drawn(20, 7), drawn(20, 8)] {
            let wanted = expected(&file, &request);
            let (tokens, ended) = all(&mut session, request).await;
            assert_eq!(tokens, wanted);
            assert_eq!(ended, Some(Ended::TokensMax));
        }
    });
}

#[test]
fn tokens_that_share_a_read_back_are_the_same_tokens() {
    let Some((engine, _)) = engine(Family::Gemma3, 64) else {
        return;
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let (alone, _) = all(&mut session, drawn(30, 3)).await;
        for shared in [2, 5, 8] {
            let request = Request {
                shared,
                ..drawn(30, 3)
            };
            let (together, _) = all(&mut session, request).await;
            assert_eq!(together, alone, "{shared} together");
        }
    });
}

#[test]
fn who_goes_on_with_an_answer_draws_what_it_would_have_been() {
    let Some((engine, _)) = engine(Family::Llama, 64) else {
        return;
    };
    pollster::block_on(async {
        let (whole, _) = all(&mut session(&engine).await, drawn(24, 5)).await;
        let mut other = session(&engine).await;
        let request = Request {
            given: whole[..10].to_vec(),
            ..drawn(24, 5)
        };
        let (rest, ended) = all(&mut other, request).await;
        assert_eq!(rest, whole[10..]);
        assert_eq!(ended, Some(Ended::TokensMax));
    });
}

#[test]
fn what_was_read_is_not_read_again_and_changes_nothing() {
    let Some((engine, _)) = engine(Family::Gemma3, 64) else {
        return;
    };
    pollster::block_on(async {
        let mut one = session(&engine).await;
        let (answer, _) = all(&mut one, request(6)).await;
        let read = one.history().to_vec();
        assert_eq!(read[..12], PROMPT);
        assert_eq!(read[12..], answer[..5]);
        let mut longer = request(8);
        longer.prompt.extend_from_slice(&answer);
        longer.prompt.push(42);
        assert_eq!(one.reuse(&longer.prompt), 17);
        let before = engine.gpu().counters().read();
        let (again, _) = all(&mut one, longer.clone()).await;
        let submits = engine.gpu().counters().read().since(before).submits;
        let (fresh, _) = all(&mut session(&engine).await, longer).await;
        assert_eq!(again, fresh);
        // One for what was unread, one for each token but the first.
        assert_eq!(submits, 1 + 7);
    });
}

#[test]
fn a_full_context_ends_an_answer_and_refuses_a_prompt() {
    let Some((engine, _)) = engine(Family::Llama, 16) else {
        return;
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let (tokens, ended) = all(&mut session, request(20)).await;
        assert_eq!((tokens.len(), ended), (5, Some(Ended::ContextFull)));
        let long = Request::greedy(vec![5; 16], 1);
        let refused = session.answer(long, None).await.map(|_| ());
        let context = 16;
        let tokens = 16;
        assert_eq!(refused, Err(RunError::ContextFull { tokens, context }));
        let unknown = session.answer(Request::greedy(vec![u32::MAX], 1), None);
        let unknown = unknown.await.map(|_| ());
        assert_eq!(unknown, Err(RunError::UnknownToken(u32::MAX)));
        let none = session.answer(Request::greedy(Vec::new(), 1), None).await;
        assert_eq!(none.map(|_| ()), Err(RunError::Empty));
    });
}

#[test]
fn sessions_take_turns_on_the_same_weights() {
    let Some((engine, _)) = engine(Family::Qwen2, 64) else {
        return;
    };
    pollster::block_on(async {
        let [mut one, mut other] = [session(&engine).await, session(&engine).await];
        let (alone, _) = all(&mut one, request(10)).await;
        one.clear();
        let mut second = request(10);
        second.prompt.reverse();
        let (alone_too, _) = all(&mut other, second.clone()).await;
        other.clear();
        let mut first = one.answer(request(10), None).await.expect("begins");
        let mut second = other.answer(second, None).await.expect("begins");
        for _ in 0..10 {
            first.next().await.expect("goes on");
            second.next().await.expect("goes on");
        }
        assert_eq!((first.drawn(), second.drawn()), (&*alone, &*alone_too));
    });
}

#[test]
fn only_what_the_mask_allows_is_drawn() {
    let Some((engine, _)) = engine(Family::Llama, 64) else {
        return;
    };
    let words = engine.config().vocabulary.div_ceil(32) as usize;
    let only = |token: usize| {
        let mut mask = vec![0; words];
        mask[token / 32] = 1 << (token % 32);
        mask
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let request = Request {
            is_masked: true,
            ..drawn(5, 1)
        };
        let mut answer = session
            .answer(request, Some(&only(40)))
            .await
            .expect("begins");
        for allowed in [40, 77, 33] {
            let drawn = answer.next_masked(&only(allowed)).await.expect("goes on");
            assert_eq!(drawn.map(|drawn| drawn.token), u32::try_from(allowed).ok());
        }
        let nothing = answer.next_masked(&vec![0; words]).await;
        assert_eq!(nothing, Ok(None));
        assert_eq!(answer.ended(), Some(Ended::NothingAllowed));
    });
}

#[test]
fn log_probabilities_are_those_of_the_row() {
    let Some((engine, file)) = engine(Family::Llama, 64) else {
        return;
    };
    let model = reference::tests::load(&file);
    let rows = model.session(CacheType::F32).read(&PROMPT).expect("fits");
    let row = &rows[rows.len() - model.config().vocabulary as usize..];
    let mut likeliest: Vec<u32> = (0..model.config().vocabulary).collect();
    likeliest.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let request = Request {
            alternatives: Some(3),
            ..request(1)
        };
        let mut answer = session.answer(request, None).await.expect("begins");
        let Ok(Some(Drawn { token, told })) = answer.next().await else {
            panic!("no token");
        };
        let told = told.expect("was asked for");
        let near = |id: u32, number: f32| {
            let exact = log_probability(row, id).expect("a token");
            assert!((f64::from(number) - exact).abs() < 1e-4);
        };
        near(token, told.token);
        let ids: Vec<u32> = told.alternatives.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, likeliest[..3]);
        for (id, number) in told.alternatives {
            near(id, number);
        }
    });
}

#[test]
fn a_decode_step_is_one_submit_and_one_read_back_and_creates_nothing() {
    let Some((engine, _)) = engine(Family::Gemma3, 64) else {
        return;
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let layers = engine.config().layers as usize;
        // Beside the layers: gathering, the first norm, logits.
        assert!(session.decode_dispatches() <= 10 * layers + 3);
        let mut answer = session.answer(request(30), None).await.expect("begins");
        for _ in 0..5 {
            answer.next().await.expect("goes on");
        }
        let before = engine.gpu().counters().read();
        for _ in 0..10 {
            answer.next().await.expect("goes on");
        }
        let counts = engine.gpu().counters().read().since(before);
        let seen = [
            counts.submits,
            counts.passes,
            counts.read_backs,
            counts.created,
        ];
        assert_eq!(seen, [10, 10, 10, 0]);
    });
}

#[test]
fn a_lost_device_is_told_within_a_step_and_the_answer_goes_on_on_another() {
    let Some((engine, file)) = engine(Family::Qwen3, 64) else {
        return;
    };
    pollster::block_on(async {
        let (whole, _) = all(&mut session(&engine).await, drawn(20, 9)).await;
        let mut session = session(&engine).await;
        let mut answer = session.answer(drawn(20, 9), None).await.expect("begins");
        for _ in 0..8 {
            answer.next().await.expect("goes on");
        }
        engine.gpu().destroy();
        let mut told = None;
        // Of what was read back already, a token may still come.
        for _ in 0..2 {
            if let Err(error) = answer.next().await {
                told = Some(error);
                break;
            }
        }
        let told = told.expect("the loss is told");
        assert!(told.is_lost(), "{told}");
        assert!(matches!(told, RunError::Gpu(GpuError::Lost(_))));
        let so_far = answer.drawn().to_vec();
        assert_eq!(so_far, whole[..so_far.len()]);
        let other = Arc::new(gpu().expect("there was one"));
        let rebuilt = load(&other, &file, settings(CacheType::F32, 1)).expect("can be run");
        let request = Request {
            given: so_far.clone(),
            ..drawn(20, 9)
        };
        let (rest, _) = all(&mut rebuilt.session().await.expect("fits"), request).await;
        assert_eq!([so_far, rest].concat(), whole);
    });
}

#[test]
fn a_file_that_ends_early_and_a_model_that_does_not_fit_are_refused() {
    let Some(gpu) = gpu().map(Arc::new) else {
        return;
    };
    let file = bytes(Family::Llama, QuantType::Q4_1);
    let short = load(&gpu, &file[..file.len() - 100], settings(CacheType::F16, 1));
    assert!(short.is_err(), "{short:?}");
    let small = Settings {
        room_bytes: Some(1000),
        ..settings(CacheType::F16, 1)
    };
    let refused = load(&gpu, &file, small).expect_err("does not fit");
    assert!(matches!(refused, LoadError::TooLarge(_)), "{refused}");
}

#[test]
fn a_context_that_no_kernel_can_be_lent_is_refused_by_the_header_with_the_numbers() {
    let Some(gpu) = gpu().map(Arc::new) else {
        return;
    };
    let mut file = bytes(Family::Llama, QuantType::F32);
    let key = b"llama.context_length";
    let at = file.windows(key.len()).position(|part| part == key);
    // Behind the key: the type of its value, in four bytes, and the value.
    let value = at.expect("the key") + key.len() + 4;
    file[value..value + 4].copy_from_slice(&(1u32 << 30).to_le_bytes());
    let header = gguf::read(&file, None).expect("a header");
    let settings = Settings {
        context_tokens: Some(1 << 30),
        ..Settings::default()
    };
    let before = gpu.counters().read();
    let refused = pollster::block_on(async {
        let mut loader = Loader::new(Arc::clone(&gpu), None, settings);
        let end = usize::try_from(header.data_offset).expect("small");
        loader.push(&file[..end]).await
    });
    let Err(LoadError::Gpu(GpuError::BufferTooLarge { bytes, most, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert!(bytes > most && most == gpu.abilities().binding_bytes_max);
    assert_eq!(gpu.counters().read(), before);
}

#[test]
fn the_memory_that_was_reckoned_is_the_memory_that_is_taken() {
    let all = [
        (false, Family::Llama, Some(Numbers::Float)),
        (false, Family::Gemma3, Some(Numbers::Float)),
        (false, Family::Llama, Some(Numbers::PackedDot)),
        // With room for a tuning run that takes whole numbers.
        (true, Family::Llama, None),
    ];
    for (is_card, family, numbers) in all {
        let wish = Wish {
            is_card,
            ..Wish::default()
        };
        let Some(gpu) = open(wish).map(Arc::new) else {
            return;
        };
        let before = gpu.counters().read();
        let file = bytes(family, QuantType::Q6K);
        let settings = Settings {
            sessions: 2,
            numbers,
            ..settings(CacheType::F16, 1)
        };
        let engine = load(&gpu, &file, settings).expect("can be run");
        let sessions =
            pollster::block_on(async { [session(&engine).await, session(&engine).await] });
        let taken = gpu.counters().read().since(before).bytes_created;
        let need = engine.need().total();
        let is_near = taken * 100 > need * 97 && taken * 100 < need * 103;
        assert!(is_near, "{taken} of {need}");
        drop(sessions);
    }
}

#[test]
fn there_are_as_many_sessions_as_the_model_was_loaded_for() {
    let Some((engine, _)) = engine(Family::Llama, 16) else {
        return;
    };
    pollster::block_on(async {
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(session(&engine).await);
        }
        let refused = engine.session().await.map(|_| ());
        assert_eq!(refused, Err(RunError::SessionsFull(4)));
        sessions.pop();
        assert!(engine.session().await.is_ok());
    });
}

#[test]
fn who_gives_up_waiting_for_a_token_loses_none() {
    let Some((engine, _)) = engine(Family::Llama, 64) else {
        return;
    };
    pollster::block_on(async {
        let mut session = session(&engine).await;
        let (whole, _) = all(&mut session, drawn(12, 4)).await;
        session.clear();
        let mut answer = session.answer(drawn(12, 4), None).await.expect("begins");
        for _ in 0..12 {
            // Made and dropped before it was looked at, and once after it was.
            drop(answer.next());
            {
                let mut next = std::pin::pin!(answer.next());
                let waker = std::task::Waker::noop();
                let mut context = std::task::Context::from_waker(waker);
                // Natively it has waited by then; in a browser it is pending.
                drop(next.as_mut().poll(&mut context));
            }
            if answer.drawn().len() == 12 {
                break;
            }
        }
        while answer.next().await.expect("goes on").is_some() {}
        assert_eq!(answer.drawn(), whole);
    });
}
