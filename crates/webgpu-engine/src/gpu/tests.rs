//! On the adapter that is here: Mesa's software device where there is no card.

use super::{Access, Gpu, GpuError, Source, Wish, bandwidth};

/// The device of tests, or none where the machine has no adapter; with `CI` set that is a failure.
pub(crate) fn gpu() -> Option<Gpu> {
    open(Wish::default())
}

/// The same as somebody wishes it.
pub(crate) fn open(wish: Wish) -> Option<Gpu> {
    match pollster::block_on(Gpu::open(&wish)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            println_skipped(&error);
            None
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "who runs the tests learns what was left out"
)]
fn println_skipped(error: &GpuError) {
    eprintln!("not run: {error}");
}

/// Floats as a buffer has them.
pub(crate) fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// And back.
pub(crate) fn to_floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words
        .map(|word| f32::from_le_bytes(word.try_into().expect("four bytes")))
        .collect()
}

fn double(wgsl: &str) -> Source {
    Source {
        label: "double".to_owned(),
        wgsl: format!(
            "@group(0) @binding(0) var<storage, read> numbers: array<f32>;
@group(0) @binding(1) var<storage, read_write> results: array<f32>;
@group(0) @binding(2) var<uniform> step: vec4<u32>;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) {{ {wgsl} }}"
        ),
        storage: vec![Access::Read, Access::Write],
    }
}

#[test]
fn a_step_is_one_pass_and_one_submit_and_creates_nothing() {
    let Some(gpu) = gpu() else { return };
    pollster::block_on(async {
        let source = double("results[i] = 2.0 * numbers[i] + f32(step.x);");
        let program = gpu.program(&source).await.expect("compiles");
        let [one, two] = ["one", "two"].map(|label| gpu.storage(label, 16).expect("fits"));
        let step = gpu.uniform("step", 16).expect("fits");
        let there = gpu.bind(&program, &[&one, &two], &step).expect("fits");
        let back = gpu.bind(&program, &[&two, &one], &step).expect("fits");
        let mut ring = gpu.read_back(16, 2).expect("fits");
        gpu.write(&one, 0, &to_bytes(&[1.0, 2.0, 3.0, 4.0]));
        let before = gpu.counters().read();
        gpu.write(&step, 0, &1u32.to_le_bytes().repeat(4));
        let mut recorder = gpu.record();
        recorder.dispatch(&there, [1, 1, 1]);
        recorder.dispatch(&back, [1, 1, 1]);
        let copied = ring.copy(&mut recorder, &one, 0..16).expect("fits");
        let submitted = recorder.submit();
        let mut ticket = ring.ticket(copied, submitted, gpu.counters());
        let read = gpu.take(&mut ticket).await.expect("is there");
        assert_eq!(to_floats(&read), [7.0, 11.0, 15.0, 19.0]);
        let counts = gpu.counters().read().since(before);
        let seen = [counts.dispatches, counts.passes, counts.submits];
        assert_eq!(seen, [2, 1, 1]);
        assert_eq!((counts.read_backs, counts.created), (1, 0));
    });
}

#[test]
fn a_kernel_that_does_not_compile_is_refused_with_the_compilers_words() {
    let Some(gpu) = gpu() else { return };
    let refused = pollster::block_on(gpu.program(&double("results[i] = missing;")));
    let Err(GpuError::Kernel { label, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(label, "double");
    assert!(message.contains("missing"), "{message}");
}

#[test]
fn a_buffer_beyond_the_adapters_limit_is_refused_with_the_numbers() {
    let Some(gpu) = gpu() else { return };
    let most = gpu.abilities().binding_bytes_max;
    let refused = gpu.storage("too large", most + 1);
    let Err(GpuError::BufferTooLarge { bytes, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(bytes, most + 1);
}

#[test]
fn a_device_that_was_given_up_says_so_at_the_next_step() {
    let Some(gpu) = gpu() else { return };
    pollster::block_on(async {
        let buffer = gpu.storage("buffer", 16).expect("fits");
        gpu.destroy();
        assert!(gpu.lost().is_some());
        let read = gpu.read(&buffer, 0..16).await;
        assert!(matches!(read, Err(GpuError::Lost(_))), "{read:?}");
    });
}

#[test]
fn the_bandwidth_is_the_bytes_over_the_time_of_the_clock() {
    let Some(gpu) = gpu() else { return };
    let looks = std::cell::Cell::new(0u32);
    // Two looks for each run; the longer of two runs takes three seconds, the shorter one second.
    let clock = || {
        let look = looks.get();
        looks.set(look + 1);
        let [turn, within] = [look / 4, look % 4];
        f64::from(turn) * 10.0 + [0.0, 1.0, 2.0, 5.0][within as usize]
    };
    let measured = pollster::block_on(bandwidth(&gpu, clock)).expect("is measured");
    // Sixteen passes more take two seconds more.
    let bytes = gpu.abilities().binding_bytes_max.min(512 << 20);
    let passes = measured.bytes_per_second * 2.0 / 16.0;
    assert!((passes / f64::from(u32::try_from(bytes).expect("small")) - 1.0).abs() < 0.05);
}
