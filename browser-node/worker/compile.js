// Has the browser compile kernels by itself: browsers refuse some texts that the Rust compiler of WGSL accepts. The
// device has WebGPU's default limits, as the smallest that kernels must run on, but every feature of the adapter that
// some variants need.

const FEATURES = ["shader-f16", "subgroups"];

// How many are compiled at a time: the browser has threads for it, but each needs memory.
const AT_ONCE = 8;

// Kernels are { label, wgsl, writes: [whether each storage buffer is written to] }. Tells all labels, those refused with
// the compiler's words, and those that this adapter lacks a feature for.
export async function compile(kernels) {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice({
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
  });
  const lacks = ({ wgsl }) => FEATURES.some(
    (feature) => !device.features.has(feature) && wgsl.includes(`enable ${feature.replace("shader-", "")};`),
  );
  const left_out = kernels.filter(lacks);
  const waiting = kernels.filter((kernel) => !lacks(kernel));
  const refused = [];
  const compileSome = async () => {
    for (let kernel = waiting.pop(); kernel !== undefined; kernel = waiting.pop()) {
      const message = await complaint(device, kernel);
      if (message !== undefined) {
        refused.push({ label: kernel.label, message });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, compileSome));
  device.destroy();
  const labels = (some) => some.map(({ label }) => label);
  return { labels: labels(kernels), refused, left_out: labels(left_out) };
}

// What is wrong with a kernel, if anything: the compiler's errors with the lines they are about, or why its bindings do
// not make a pipeline.
async function complaint(device, { label, wgsl, writes }) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label, code: wgsl });
  const scope = device.popErrorScope();
  const { messages } = await module.getCompilationInfo();
  const lines = wgsl.split("\n");
  const errors = messages.filter(({ type }) => type === "error");
  if (errors.length > 0) {
    return errors.map(({ message, lineNum }) => `line ${lineNum}: ${message}\n  ${lines[lineNum - 1]}`).join("\n");
  }
  const error = await scope;
  if (error !== null) {
    return error.message;
  }
  const storage = writes.map((written) => (written ? "storage" : "read-only-storage"));
  const entries = [...storage, "uniform"].map((type, binding) => (
    { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }
  ));
  const bindGroupLayouts = [device.createBindGroupLayout({ entries })];
  const layout = device.createPipelineLayout({ bindGroupLayouts });
  try {
    await device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint: "main" } });
  } catch (error) {
    return error.message;
  }
  return undefined;
}
