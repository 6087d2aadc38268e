//! The program as machine code.
//!
//! Interpreting an instruction costs more than most of them do, and what the interpreter keeps in lists (the fields of a
//! header, the parts of a key, the terms of a checksum) is known when the program is loaded. So the code is translated
//! once more, instruction by instruction, with cranelift: slots stay where they are, constants become immediates, a value
//! that was just written is not read back, headers and keys become straight lines.
//!
//! ```text
//!   Program::code ──flow──▶ blocks ─┬─ arith    numbers, moves, branches
//!                                   ├─ header   extract, add, and what is sent
//!                                   ├─ table    lookups, selects
//!                                   ├─ checksum
//!                                   └─ calls    everything else: the interpreter runs that one instruction
//! ```
//!
//! What an instruction means is defined by the interpreter, in `exec`; whatever has no translation here is run by it, so
//! an instruction is never missing. On a target that cranelift does not know, or where memory cannot be made executable,
//! the interpreter runs everything.

#![allow(clippy::result_large_err, reason = "an error of cranelift's, met once when a program is loaded")]

mod arith;
mod calls;
mod checksum;
mod flow;
mod header;
mod table;

use super::exec::machine::Machine;
use super::program::Program;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, ModuleError, default_libcall_names};
use std::collections::HashMap;
use std::sync::Mutex;

/// Programs of more instructions than this are interpreted: translation takes time in proportion.
const MAX_CODE: usize = 100_000;

/// `run(machine, slots, frame, frame length, entry)`
type Run = extern "C" fn(*mut Machine<'_, '_>, *mut u64, *const u8, u64, u32);
/// `emit(slots, frame, frame length, out) -> bytes of all headers that are sent`
type Emit = extern "C" fn(*const u64, *const u8, u64, *mut u8) -> u64;

/// The machine code of one program.
pub(crate) struct Native {
    run: Run,
    /// Not there if what is sent may have a varbit.
    emit: Option<Emit>,
    /// Where a packet may start or go on, as numbers that `run` knows.
    entries: HashMap<u32, u32>,
    /// Owns the memory that the code is in.
    module: Mutex<Option<JITModule>>,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(module) = module {
            // SAFETY: the code is called through `self` only, which nobody has any more.
            unsafe { module.free_memory() };
        }
    }
}

impl Native {
    /// Translates a program that `compile::check` has accepted. `None` where that cannot be done; the log says why.
    pub(crate) fn of(p: &Program) -> Option<Self> {
        if p.code.len() > MAX_CODE {
            tracing::info!(instructions = p.code.len(), "a program this large is interpreted, which is slower");
            return None;
        }
        match translate(p) {
            Ok(native) => Some(native),
            Err(error) => {
                tracing::warn!(%error, "the program cannot be made machine code and is interpreted, which is slower");
                None
            }
        }
    }

    /// Runs a packet from an instruction to its end. False if that is none of the places where packets start.
    #[inline]
    pub(crate) fn run(&self, m: &mut Machine<'_, '_>, from: u32) -> bool {
        let Some(entry) = self.entries.get(&from) else { return false };
        let (slots, frame) = (m.s.address(), m.pkt.frame);
        (self.run)(m, slots, frame.as_ptr(), frame.len() as u64, *entry);
        true
    }

    /// Writes the headers that are sent into `out`, which has room for all headers of the program. Returns how many bytes
    /// that is.
    #[inline]
    pub(crate) fn emit(&self, slots: *const u64, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        let emit = self.emit?;
        Some(emit(slots, frame.as_ptr(), frame.len() as u64, out.as_mut_ptr()) as usize)
    }
}

fn translate(p: &Program) -> Result<Native, ModuleError> {
    // The verifier costs milliseconds at load, and a mistake in the translation then costs speed, not packets.
    let flags = [("opt_level", "speed"), ("enable_verifier", "true")];
    let builder = JITBuilder::with_flags(&flags, default_libcall_names())?;
    let mut module = JITModule::new(builder);
    let (run, entries) = flow::run(p, &mut module)?;
    let emit = header::emit(p, &mut module)?;
    module.finalize_definitions()?;
    let address = |id: FuncId| module.get_finalized_function(id);
    let (run, emit) = (address(run), address(emit));
    // SAFETY: both were just translated with these parameters and results, for the calling convention of this system.
    let (run, emit) =
        unsafe { (std::mem::transmute::<*const u8, Run>(run), std::mem::transmute::<*const u8, Emit>(emit)) };
    let varbits = p.deparse.iter().any(|h| p.headers[*h].varbit.is_some());
    let emit = (!varbits).then_some(emit);
    Ok(Native { run, emit, entries, module: Mutex::new(Some(module)) })
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::super::Program;

    /// Everything works without machine code, only slower: without this test nobody would notice.
    #[test]
    fn a_program_becomes_machine_code() {
        let json = include_bytes!("../../../../bmv2-configs/gateway.json");
        assert!(Program::compile(json).unwrap().native.is_some());
        assert!(Program::compile_plainly(json).unwrap().native.is_none());
        // More than one header whose validity is asked, each where only the answer before led.
        let json = include_bytes!("../../../tests/programs/checksum_headers.json");
        assert!(Program::compile(json).unwrap().native.is_some());
    }
}
