// Counts what a page asks of WebGPU, by standing in front of the browser's own methods.

const CALLS = [
  ['dispatches', 'GPUComputePassEncoder', ['dispatchWorkgroups', 'dispatchWorkgroupsIndirect']],
  ['submits', 'GPUQueue', ['submit']],
  ['read_backs', 'GPUBuffer', ['mapAsync']],
  ['created', 'GPUDevice', ['createBuffer', 'createBindGroup', 'createComputePipeline', 'createComputePipelineAsync']],
];

/// Counts until it is stopped. `take` gives what came since the last time.
export function counting() {
  let counts = {};
  const undo = [];
  for (const [name, owner, methods] of CALLS) {
    counts[name] = 0;
    for (const method of methods) {
      const prototype = globalThis[owner].prototype;
      const own = prototype[method];
      prototype[method] = function (...parts) {
        counts[name] += 1;
        return own.apply(this, parts);
      };
      undo.push(() => {
        prototype[method] = own;
      });
    }
  }
  return {
    take() {
      const taken = counts;
      counts = Object.fromEntries(CALLS.map(([name]) => [name, 0]));
      return taken;
    },
    stop() {
      undo.forEach((back) => back());
    },
  };
}
