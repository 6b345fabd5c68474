//! How wasmtime is set up: one configuration for the host and for the worker that compiles, so that what one makes the other takes.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
};

/// Core instances of one call: a component is a few of them, with their adapters.
const INSTANCES_PER_CALL: u32 = 32;
/// Memories of one call. A language runtime in a component has one, sometimes two.
const MEMORIES_PER_CALL: u32 = 4;
/// Tables of one call.
const TABLES_PER_CALL: u32 = 16;
/// Elements of one table: the function pointers of a big language runtime.
const TABLE_ELEMENTS: usize = 100_000;
/// The bookkeeping of one instance, which grows with what a module imports, exports and defines.
const INSTANCE_SIZE: usize = 4 << 20;
/// The stack of the guest when nobody says otherwise.
pub(crate) const STACK: usize = 512 << 10;
/// The stack of host functions, on top of the guest's.
const HOST_STACK: usize = 1536 << 10;

/// The engine of the host, with slots for this many calls at the same time and this stack for each guest.
pub(crate) fn engine(calls: u32, stack: usize) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.max_wasm_stack(stack).async_stack_size(stack.saturating_add(HOST_STACK));
    let mut pool = PoolingAllocationConfig::new();
    let slots = |per_call: u32| calls.saturating_mul(per_call);
    pool.total_component_instances(calls)
        .total_core_instances(slots(INSTANCES_PER_CALL))
        .total_memories(slots(MEMORIES_PER_CALL))
        .total_tables(slots(TABLES_PER_CALL))
        .total_stacks(calls)
        .total_gc_heaps(calls)
        .max_core_instances_per_component(INSTANCES_PER_CALL)
        .max_memories_per_component(MEMORIES_PER_CALL)
        .max_tables_per_component(TABLES_PER_CALL)
        .max_memories_per_module(MEMORIES_PER_CALL)
        .max_tables_per_module(TABLES_PER_CALL)
        .max_core_instance_size(INSTANCE_SIZE)
        .max_component_instance_size(INSTANCE_SIZE)
        .table_elements(TABLE_ELEMENTS)
        // What a call wrote is found by asking the kernel, where it can tell, and written back in place; unmapping would cost the next call a fault for each page.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// The engine of the worker: it compiles and never runs, so it reserves no slots.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        // What only debuggers and profilers read makes an artifact a quarter bigger, and every start slower.
        .debug_symbols(false)
        .generate_address_map(false)
        .native_unwind_info(false)
        // Proposals that no plugin needs are code that no plugin can attack.
        .concurrency_support(false)
        .wasm_exceptions(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_stack_switching(false)
        .wasm_threads(false);
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[test]
    fn what_the_worker_compiles_the_host_takes() {
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&engine(4, 1 << 20).unwrap()), hash(&compiling_engine().unwrap()));
    }
}
