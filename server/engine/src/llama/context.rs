//! A `llama_context` with its batch: owns both, frees both, and is the only one to call `llama_decode`.
//!
//! Made and used on one thread. The weights are borrowed by pointer; whoever owns the context drops it before them.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::ffi::c_void;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_sys_2 as sys;

use super::adapter::Loaded;
use super::log;
use crate::{Adapter, Addition, Batch, DecodeError, Interrupt, ModelError, Sequence};

/// How large to make a context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Places per sequence.
    pub(super) context: u32,
    /// Sequences.
    pub(super) sequences: u32,
    /// The most entries of a batch.
    pub(super) batch: u32,
    /// The most entries of a batch that ask for logits.
    pub(super) outputs: u32,
    /// Threads that compute a step of few tokens.
    pub(super) threads: i32,
    /// Threads that compute a step of many.
    pub(super) batch_threads: i32,
    /// What comes out of it.
    pub(super) purpose: Purpose,
}

/// What a context gives for the rows that ask for output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Logits.
    Text,
    /// Vectors of the tokens, not pooled.
    Embeddings,
}

/// An owned `llama_context`.
#[derive(Debug)]
pub(super) struct Context {
    context: NonNull<sys::llama_context>,
    batch: RawBatch,
    vocabulary: usize,
    width: usize,
    sequences: usize,
    // A copy between sequences is done by llama.cpp at the next decode; until then the bytes of its target are not there.
    copying: bool,
    // They live as long as the weights, which outlive the context.
    adapters: Vec<Loaded>,
    adapter: Adapter,
    // Boxed: the context holds its address.
    _interrupt: Box<Interrupt>,
}

impl Context {
    /// A context of this shape, or llama.cpp's reason.
    ///
    /// The weights must outlive it.
    pub(super) fn new(
        weights: &Weights,
        shape: Shape,
        interrupt: Interrupt,
        adapters: Vec<Loaded>,
    ) -> Result<Self, String> {
        let interrupt = Box::new(interrupt);
        // SAFETY: takes nothing, returns a plain struct.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = shape.context * shape.sequences;
        params.n_seq_max = shape.sequences;
        params.kv_unified = false;
        // Without it the numbers do not depend on the batch (see the module's documentation).
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        // One physical batch per logical one: what a step costs is then what the scheduler planned.
        params.n_batch = shape.batch;
        params.n_ubatch = shape.batch;
        // Rows of logits for sequences and drafts and not for every entry: with a vocabulary of 150,000 each takes 0.6 MB.
        params.n_outputs_max = shape.outputs;
        params.n_threads = shape.threads;
        params.n_threads_batch = shape.batch_threads;
        if shape.purpose == Purpose::Embeddings {
            params.embeddings = true;
            params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
        }
        params.no_perf = true;
        params.abort_callback = Some(is_raised);
        params.abort_callback_data = (&raw const *interrupt).cast_mut().cast::<c_void>();
        let model = weights_pointer(weights);
        // SAFETY: the model pointer is live (borrowed above); the parameters are initialised; this thread alone makes contexts of it.
        let (context, said) = log::capture(|| unsafe { sys::llama_init_from_model(model, params) });
        let context = NonNull::new(context).ok_or(said)?;
        let vocabulary = usize::try_from(weights.n_vocab()).unwrap_or(0);
        // SAFETY: the model is live.
        let width = usize::try_from(unsafe { sys::llama_model_n_embd_out(model) }).unwrap_or(0);
        let batch = RawBatch::new(shape.batch);
        Ok(Self {
            context,
            batch,
            vocabulary,
            width,
            sequences: shape.sequences as usize,
            copying: false,
            adapters,
            adapter: Adapter::default(),
            _interrupt: interrupt,
        })
    }

    /// Places that one sequence really has.
    pub(super) fn places_per_sequence(&self) -> usize {
        // SAFETY: the context is live.
        unsafe { sys::llama_n_ctx_seq(self.context.as_ptr()) as usize }
    }

    /// Computes with so many threads from the next step on.
    pub(super) fn set_threads(&mut self, threads: usize, batch_threads: usize) {
        let bounded = |threads: usize| i32::try_from(threads).unwrap_or(i32::MAX).max(1);
        // SAFETY: the context is live, and nothing computes with it now.
        unsafe { sys::llama_set_n_threads(self.context.as_ptr(), bounded(threads), bounded(batch_threads)) }
    }

    /// Computes with this adapter from the next step on.
    pub(super) fn adapt(&mut self, adapter: Adapter) -> Result<(), ModelError> {
        if adapter == self.adapter {
            return Ok(());
        }
        let unknown = || ModelError::new("the context does not have this adapter");
        let loaded = |addition: Addition| {
            let loaded = self.adapters.get(addition.index).ok_or_else(unknown)?;
            Ok((loaded.adapter.as_ptr(), addition.scale().unwrap_or(loaded.scale)))
        };
        let chosen = adapter.0.map(loaded).transpose()?;
        let (mut pointers, mut scales): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        // SAFETY: the context is live, the adapters live as long as its weights, and both lists have the length given; llama.cpp copies.
        let code = unsafe {
            let (adapters, scales) = (pointers.as_mut_ptr(), scales.as_mut_ptr());
            sys::llama_set_adapters_lora(self.context.as_ptr(), adapters, pointers.len(), scales)
        };
        if code != 0 {
            return Err(ModelError::new("the adapter cannot be used"));
        }
        self.adapter = adapter;
        Ok(())
    }

    pub(super) fn decode(&mut self, batch: &Batch) -> Result<(), DecodeError> {
        if batch.entries.iter().any(|entry| entry.sequence.0 >= self.sequences) {
            return Err(ModelError::new("a batch names a sequence that the context does not have").into());
        }
        let raw = self.batch.fill(batch)?;
        // SAFETY: the context is live; the batch's arrays hold `n_tokens` initialised entries and outlive the call.
        let (code, said) = log::capture(|| unsafe { sys::llama_decode(self.context.as_ptr(), raw) });
        // A batch refused as invalid has not come so far.
        self.copying &= code < 0;
        match code {
            0 => Ok(()),
            1 => Err(DecodeError::CacheFull),
            2 => Err(DecodeError::Interrupted),
            _ => Err(ModelError::new(format!("llama.cpp could not compute a step ({said}, code {code})")).into()),
        }
    }

    /// The logits after an entry of the last batch that asked for output.
    pub(super) fn logits(&mut self, row: usize) -> Option<&[f32]> {
        let row = i32::try_from(row).ok()?;
        // SAFETY: the context is live; for a row without output the function returns null.
        let logits = unsafe { sys::llama_get_logits_ith(self.context.as_ptr(), row) };
        let logits = NonNull::new(logits)?;
        // SAFETY: llama.cpp gives one float per vocabulary entry, valid until the next decode, which needs `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocabulary) })
    }

    /// The vector of an entry of the last batch that asked for output; only of a context for embeddings.
    pub(super) fn embedding(&mut self, row: usize) -> Option<&[f32]> {
        let row = i32::try_from(row).ok()?;
        // SAFETY: the context is live; for a row without output, or a context without embeddings, the function returns null.
        let vector = unsafe { sys::llama_get_embeddings_ith(self.context.as_ptr(), row) };
        let vector = NonNull::new(vector)?;
        // SAFETY: llama.cpp gives one float per dimension, valid until the next decode, which needs `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(vector.as_ptr(), self.width) })
    }

    /// Keeps the first `length` tokens of the sequence; when that is impossible, none, and returns false.
    pub(super) fn rewind(&mut self, sequence: Sequence, length: usize) -> bool {
        let (Ok(sequence), Ok(length)) = (i32::try_from(sequence.0), i32::try_from(length)) else { return false };
        // SAFETY: the context is live; a negative end means "to the end". Removing a whole sequence cannot fail.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_rm(memory, sequence, length, -1) || {
                sys::llama_memory_seq_rm(memory, sequence, -1, -1);
                false
            }
        }
    }

    /// Makes `to` hold the first `length` tokens of `from`; when that is impossible, none, and returns false.
    pub(super) fn copy(&mut self, from: Sequence, to: Sequence, length: usize) -> bool {
        if from == to || from.0.max(to.0) >= self.sequences {
            return false;
        }
        let (Ok(source), Ok(target)) = (i32::try_from(from.0), i32::try_from(to.0)) else { return false };
        // SAFETY: the context is live and has both sequences. Between two streams of the cache only whole sequences can be copied.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_rm(memory, target, -1, -1);
            sys::llama_memory_seq_cp(memory, source, target, -1, -1);
        }
        self.copying = true;
        self.rewind(to, length)
    }

    /// The sequence's state, unless it is larger than `limit` or still to be copied.
    pub(super) fn save(&mut self, sequence: Sequence, limit: usize) -> Option<Vec<u8>> {
        let sequence = i32::try_from(sequence.0).ok().filter(|_| !self.copying && sequence.0 < self.sequences)?;
        // SAFETY: the context is live and has the sequence.
        let size = unsafe { sys::llama_state_seq_get_size(self.context.as_ptr(), sequence) };
        if size == 0 || size > limit {
            return None;
        }
        let mut state = vec![0; size];
        // SAFETY: the buffer has `size` bytes, and llama.cpp writes no more.
        let (written, _) = log::capture(|| unsafe {
            sys::llama_state_seq_get_data(self.context.as_ptr(), state.as_mut_ptr(), size, sequence)
        });
        (written == size).then_some(state)
    }

    /// Makes the sequence hold the first `length` tokens of a state that [`save`](Self::save) of this same context gave; when that is
    /// impossible, none, and returns false.
    pub(super) fn restore(&mut self, sequence: Sequence, state: &[u8], length: usize) -> bool {
        let known = i32::try_from(sequence.0).ok().filter(|_| sequence.0 < self.sequences);
        let Some(id) = known.filter(|_| self.rewind(sequence, 0) && !self.copying) else { return false };
        // SAFETY: the buffer has the length given, and its bytes are llama.cpp's own.
        let (read, _) = log::capture(|| unsafe {
            sys::llama_state_seq_set_data(self.context.as_ptr(), state.as_ptr(), state.len(), id)
        });
        let length = if read == state.len() { length } else { 0 };
        self.rewind(sequence, length) && length > 0
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned and not freed before.
        unsafe { sys::llama_free(self.context.as_ptr()) }
    }
}

// Polled between the nodes of a running graph.
unsafe extern "C" fn is_raised(interrupt: *mut c_void) -> bool {
    // SAFETY: the pointer given at creation; the box it points into lives as long as the context. `Interrupt` is only read, atomically.
    unsafe { &*interrupt.cast::<Interrupt>() }.is_raised()
}

pub(super) fn weights_pointer(weights: &Weights) -> *mut sys::llama_model {
    const { assert!(size_of::<Weights>() == size_of::<*mut sys::llama_model>()) };
    // SAFETY: `LlamaModel` is `repr(transparent)` over a pointer wrapper that is `repr(transparent)` over `NonNull<llama_model>`.
    unsafe { *(&raw const *weights).cast::<*mut sys::llama_model>() }
}

/// A `llama_batch` of fixed capacity with one sequence per entry.
#[derive(Debug)]
struct RawBatch {
    raw: sys::llama_batch,
    capacity: usize,
}

impl RawBatch {
    fn new(capacity: u32) -> Self {
        let capacity = i32::try_from(capacity).unwrap_or(i32::MAX);
        // SAFETY: plain allocation; the arrays are freed in `drop`.
        let raw = unsafe { sys::llama_batch_init(capacity, 0, 1) };
        Self { raw, capacity: usize::try_from(capacity).unwrap_or(0) }
    }

    fn fill(&mut self, batch: &Batch) -> Result<sys::llama_batch, ModelError> {
        let too_large =
            || ModelError::new(format!("a batch of {} entries, room for {}", batch.entries.len(), self.capacity));
        if batch.entries.len() > self.capacity {
            return Err(too_large());
        }
        for (row, entry) in batch.entries.iter().enumerate() {
            let position = i32::try_from(entry.position).map_err(|_| too_large())?;
            let sequence = i32::try_from(entry.sequence.0).map_err(|_| too_large())?;
            // SAFETY: `row` is below the capacity for which every array, and a list of one sequence per entry, was allocated.
            unsafe {
                *self.raw.token.add(row) = entry.token.0;
                *self.raw.pos.add(row) = position;
                *self.raw.n_seq_id.add(row) = 1;
                **self.raw.seq_id.add(row) = sequence;
                *self.raw.logits.add(row) = i8::from(entry.output);
            }
        }
        self.raw.n_tokens = i32::try_from(batch.entries.len()).map_err(|_| too_large())?;
        Ok(self.raw)
    }
}

impl Drop for RawBatch {
    fn drop(&mut self) {
        // SAFETY: allocated by `llama_batch_init` and not freed before; copies made by `fill` do not outlive a call.
        unsafe { sys::llama_batch_free(self.raw) }
    }
}
