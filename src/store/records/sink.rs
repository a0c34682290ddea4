//! Where new records of an object go: a few to the journal, many to packs of their own.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::Records;
use super::pack::PackWriter;
use crate::digest::{Digest, Sha256};
use crate::store::error::StoreError;
use crate::store::format::{RecordHeader, Role};

/// New records of one object up to this many bytes go to the journal; more of them get packs of
/// their own.
const SMALL: usize = 512 << 10;

/// Where new records of one object go.
#[derive(Default)]
pub(in crate::store) struct Sink {
    /// Chunks that were appended.
    seen: HashSet<Digest>,
    /// The first ones, and all when they stay few.
    pub(in crate::store) small: Vec<u8>,
    pub(in crate::store) headers: Vec<RecordHeader>,
    pack: Option<PackWriter>,
    /// The pack before, on its way to the disk.
    sealing: Option<JoinHandle<Result<Sha256, StoreError>>>,
    sealed: Vec<Sha256>,
}

impl Sink {
    pub(in crate::store) fn append(
        &mut self,
        records: &Arc<Records>,
        record: &RecordHeader,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        if !self.seen.insert(record.key) {
            return Ok(());
        }
        if self.pack.is_none() && self.sealed.is_empty() && self.sealing.is_none() {
            self.small.extend_from_slice(bytes);
            self.headers.push(*record);
            if self.small.len() as u64 > records.files.limit(SMALL as u64) {
                self.unpack_small(records)?;
            }
            return Ok(());
        }
        self.put_into_pack(records, record, bytes)
    }

    /// There is more than little: what was held back goes to a pack.
    fn unpack_small(&mut self, records: &Arc<Records>) -> Result<(), StoreError> {
        let small = std::mem::take(&mut self.small);
        let mut at = 0;
        for header in std::mem::take(&mut self.headers) {
            let length = header.length() as usize;
            self.put_into_pack(records, &header, &small[at..at + length])?;
            at += length;
        }
        Ok(())
    }

    fn put_into_pack(
        &mut self,
        records: &Arc<Records>,
        record: &RecordHeader,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(PackWriter::new(&records.files, Role::Data)?),
        };
        pack.append(&records.files, record, bytes)?;
        if pack.is_full() {
            self.seal(records)?;
        }
        Ok(())
    }

    /// Starts to seal the pack, in the background: forcing it to disk takes time.
    fn seal(&mut self, records: &Arc<Records>) -> Result<(), StoreError> {
        self.join(records)?;
        if let Some(pack) = self.pack.take() {
            let records = records.clone();
            self.sealing = Some(std::thread::spawn(move || {
                pack.seal(&records.files, &records.session)
                    .inspect_err(|_| records.unsettle())
            }));
        }
        Ok(())
    }

    fn join(&mut self, records: &Records) -> Result<(), StoreError> {
        if let Some(sealing) = self.sealing.take() {
            let name = sealing
                .join()
                .map_err(|_| StoreError::Refused("a thread of the store ended".to_owned()))??;
            records.add_packs(&[name])?;
            self.sealed.push(name);
        }
        Ok(())
    }

    pub(in crate::store) fn finish(&mut self, records: &Arc<Records>) -> Result<(), StoreError> {
        self.seal(records)?;
        self.join(records)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(sealing) = self.sealing.take() {
            let _ = sealing.join();
        }
    }
}
