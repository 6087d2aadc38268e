//! Parameters of hashes that a control plane may set.

use super::super::error::TableError;
use super::super::hashes::{CrcParams, State};
use super::Dataplane;

impl Dataplane {
    fn hash_state(&self, calculation: &str) -> Result<&State, TableError> {
        let ix = self.program.calc_names.iter().position(|n| n == calculation);
        let found = ix.and_then(|i| self.hash_states.get(i));
        found.ok_or_else(|| TableError::BadHash { name: calculation.to_owned(), what: "there is no such calculation" })
    }

    /// Gives the calculation of this name (in the JSON) other parameters; it must use `crc8_custom`, `crc16_custom`,
    /// `crc32_custom` or `crc64_custom`. BMv2 offers this as `set_crc16_parameters` and `set_crc32_parameters`.
    ///
    /// # Errors
    /// There is no such calculation, it is no custom CRC, or a parameter is wider than the CRC.
    pub fn set_crc(&self, calculation: &str, params: CrcParams) -> Result<(), TableError> {
        let what = "it is no custom CRC, or one of this width";
        let set = self.hash_state(calculation)?.set_crc(params);
        if set { Ok(()) } else { Err(TableError::BadHash { name: calculation.to_owned(), what }) }
    }

    /// Gives the calculation of this name another key; it must use `toeplitz`.
    ///
    /// # Errors
    /// There is no such calculation, it is no Toeplitz hash, or the key is not one or more words of four bytes.
    pub fn set_toeplitz_key(&self, calculation: &str, key: &[u8]) -> Result<(), TableError> {
        let what = "it is no Toeplitz hash, or the key is not one or more words of four bytes";
        let set = self.hash_state(calculation)?.set_key(key);
        if set { Ok(()) } else { Err(TableError::BadHash { name: calculation.to_owned(), what }) }
    }
}
