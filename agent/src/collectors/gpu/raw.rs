//! The few functions of NVML that nvml-wrapper does not wrap, or not as they are needed: through its own handle on the
//! library and its own bindings.
#![allow(unsafe_code, reason = "NVML is a C library; each call says why it is sound")]

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlMemory_t, nvmlValue_t};

use super::report::Memory;

/// A field of `nvmlDeviceGetFieldValues`, and the scope that it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) id: u32,
    pub(super) scope: u32,
}

/// Remapped rows of a GPU's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemappedRows {
    pub(super) correctable: u32,
    pub(super) uncorrectable: u32,
    pub(super) pending: bool,
    pub(super) failed: bool,
}

fn handle(device: &Device<'_>) -> nvmlDevice_t {
    // SAFETY: the handle is only given back to the library that it comes from, within the life of `device`, which
    // borrows the library.
    unsafe { device.handle() }
}

/// Several fields in one call, in their order; `None` for one that the GPU does not have. nvml-wrapper has no scopes.
pub(super) fn field_values(device: &Device<'_>, fields: &[Field]) -> Result<Vec<Option<f64>>, NvmlError> {
    let function = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let mut values: Vec<nvmlFieldValue_t> = fields
        .iter()
        .map(|field| nvmlFieldValue_t {
            fieldId: field.id,
            scopeId: field.scope,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            // Not successful, should the library leave one out.
            nvmlReturn: nvml_wrapper_sys::bindings::nvmlReturn_enum_NVML_ERROR_NO_DATA,
            value: nvmlValue_t { ullVal: 0 },
        })
        .collect();
    let count = i32::try_from(values.len()).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the symbol has the bindings' signature, and `values` is an array of `count` initialised structures that
    // nobody else has, which the library fills and does not keep.
    nvml_try(unsafe { function(handle(device), count, values.as_mut_ptr()) })?;
    Ok(values.iter().map(number).collect())
}

fn number(field: &nvmlFieldValue_t) -> Option<f64> {
    nvml_try(field.nvmlReturn).ok()?;
    let value = field.value;
    // SAFETY: every member is a plain number for which any bits are valid, and the union was initialised whole.
    unsafe {
        match field.valueType {
            0 => Some(value.dVal).filter(|value| value.is_finite()),
            1 => Some(f64::from(value.uiVal)),
            2 => Some(value.ulVal as f64),
            3 => Some(value.ullVal as f64),
            4 => Some(value.sllVal as f64),
            5 => Some(f64::from(value.siVal)),
            6 => Some(f64::from(value.usVal)),
            _ => None,
        }
    }
}

/// The GPU instance that a MIG device belongs to.
pub(super) fn gpu_instance_id(device: &Device<'_>) -> Result<u32, NvmlError> {
    let function = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: as the bindings have it; the library writes one number.
    nvml_try(unsafe { function(handle(device), &mut id) })?;
    Ok(id)
}

/// Rows of the memory that were put in place of broken ones.
pub(super) fn remapped_rows(device: &Device<'_>) -> Result<RemappedRows, NvmlError> {
    let function = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut correctable, mut uncorrectable, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: as the bindings have it; the library writes four numbers.
    nvml_try(unsafe { function(handle(device), &mut correctable, &mut uncorrectable, &mut pending, &mut failed) })?;
    Ok(RemappedRows { correctable, uncorrectable, pending: pending != 0, failed: failed != 0 })
}

/// Memory as drivers before 510 tell it: what the driver reserves counts as used.
pub(super) fn memory_of_old_drivers(device: &Device<'_>) -> Result<Memory, NvmlError> {
    let function = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: as the bindings have it; the library fills the structure.
    nvml_try(unsafe { function(handle(device), &mut memory) })?;
    Ok(Memory { total: memory.total, free: memory.free, used: memory.used, reserved: None })
}

/// Why the clocks are held down, with the bits that nvml-wrapper does not know.
pub(super) fn throttle_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = device.nvml().lib();
    let new = lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref();
    // Its name before driver 535.
    let function = nvml_sym(new).or_else(|_| nvml_sym(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref()))?;
    let mut reasons = 0;
    // SAFETY: as the bindings have it; the library writes one number.
    nvml_try(unsafe { function(handle(device), &mut reasons) })?;
    Ok(reasons)
}
