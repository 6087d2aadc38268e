//! What BMv2 and its P4Runtime server do with the handles of members, written down plainly.

use std::collections::{BTreeMap, BTreeSet};

/// BMv2 with PI: members are copied for their weights, and each copy has a handle.
#[derive(Default)]
pub struct Reference {
    /// Which are in use.
    pub handles: Vec<bool>,
    /// By id: handles, and the weights that groups give it.
    pub members: BTreeMap<u32, (Vec<usize>, Vec<u32>)>,
    pub groups: BTreeMap<u32, (BTreeSet<usize>, BTreeMap<u32, u32>)>,
}

impl Reference {
    pub fn take(&mut self) -> usize {
        let at = self.handles.iter().position(|used| !used).unwrap_or(self.handles.len());
        if at == self.handles.len() {
            self.handles.push(true);
        }
        self.handles[at] = true;
        at
    }

    pub fn set_group(&mut self, id: u32, members: &BTreeMap<u32, u32>) {
        let old = self.groups.get(&id).map(|g| g.1.clone()).unwrap_or_default();
        let mut handles = self.groups.get(&id).map(|g| g.0.clone()).unwrap_or_default();
        let all: BTreeSet<u32> = old.keys().chain(members.keys()).copied().collect();
        for m in &all {
            let (was, is) = (old.get(m).copied().unwrap_or(0) as usize, members.get(m).copied().unwrap_or(0) as usize);
            while self.members[m].0.len() < is {
                let h = self.take();
                self.members.get_mut(m).unwrap().0.push(h);
            }
            let state = self.members.get_mut(m).unwrap();
            state.0[is.min(was)..was].iter().for_each(|h| assert!(handles.remove(h)));
            state.0[was.min(is)..is].iter().for_each(|h| assert!(handles.insert(*h)));
            if was > 0 {
                let at = state.1.iter().position(|w| *w == was as u32).unwrap();
                state.1.remove(at);
            }
            if is > 0 {
                state.1.push(is as u32);
            }
        }
        for m in &all {
            let state = self.members.get_mut(m).unwrap();
            let most = state.1.iter().copied().max().unwrap_or(1) as usize;
            while state.0.len() > most {
                self.handles[state.0.pop().unwrap()] = false;
            }
        }
        self.groups.insert(id, (handles, members.clone()));
    }

    /// The member that a hash selects.
    pub fn select(&self, group: u32, hash: usize) -> u32 {
        let handles = &self.groups[&group].0;
        let h = handles.iter().nth(hash % handles.len()).unwrap();
        *self.members.iter().find(|(_, (handles, _))| handles.contains(h)).unwrap().0
    }
}
