//! Choosing the characteristics to use, by their UUIDs and by what they can do.

use bluer::gatt::remote::{Characteristic, CharacteristicWriteRequest};
use bluer::gatt::{CharacteristicFlags, WriteOp};
use bluer::{Device, Result};

use super::{BleChannel, CharacteristicId};

/// Fits into one packet whatever MTU was negotiated.
const MIN_WRITE: usize = 20;

/// bluer subtracts 5 bytes from the MTU that BlueZ reports; the header of a write has 3.
const BLUER_MARGIN: usize = 2;

/// A characteristic of the battery, as far as the choice needs it.
#[derive(Debug, Clone)]
pub(super) struct Candidate<C> {
    pub(super) id: CharacteristicId,
    pub(super) flags: CharacteristicFlags,
    pub(super) characteristic: C,
}

/// The characteristics to use.
#[derive(Debug, Clone)]
pub(super) struct Channel<C> {
    pub(super) notify: Vec<C>,
    pub(super) write: C,
    pub(super) op: WriteOp,
    /// What to write after subscribing.
    pub(super) greeting: Vec<(C, WriteOp, Vec<u8>)>,
    pub(super) read: Vec<C>,
}

/// All characteristics of the battery, in the order of their handles.
pub(super) async fn characteristics(device: &Device) -> Result<Vec<Candidate<Characteristic>>> {
    let mut candidates = Vec::new();
    for service in device.services().await? {
        let service_uuid = service.uuid().await?.as_u128();
        for characteristic in service.characteristics().await? {
            let uuid = characteristic.uuid().await?.as_u128();
            candidates.push(Candidate {
                id: CharacteristicId { service: service_uuid, uuid },
                flags: characteristic.flags().await?,
                characteristic,
            });
        }
    }
    candidates.sort_by_key(|candidate| {
        let characteristic = &candidate.characteristic;
        (characteristic.service_id(), characteristic.id())
    });
    Ok(candidates)
}

/// The first channel that the battery has completely. JK modules have two characteristics of the
/// same UUID, one for each direction, so what a characteristic can do counts as well.
pub(super) fn choose<C: Clone>(
    candidates: &[Candidate<C>],
    channels: &[BleChannel],
) -> Option<Channel<C>> {
    let find = |id: &CharacteristicId, is_able: fn(&CharacteristicFlags) -> bool| {
        candidates.iter().find(|candidate| candidate.id == *id && is_able(&candidate.flags))
    };
    let subscribable = |id| {
        let found = find(id, |flags| flags.notify || flags.indicate)?;
        Some(found.characteristic.clone())
    };
    channels.iter().find_map(|channel| {
        let notify = channel.notify.iter().map(subscribable).collect::<Option<_>>()?;
        let readable = |id| Some(find(id, |flags| flags.read)?.characteristic.clone());
        let read = channel.read.iter().map(readable).collect::<Option<_>>()?;
        let is_able = if channel.read_only { |_: &_| true } else { is_writable };
        let write = find(&channel.write, is_able)?;
        let op = write_op(&write.flags, channel.prefer_response);
        let greeting = channel.greeting.iter().filter_map(|(id, bytes)| {
            let to = find(id, is_writable)?;
            // The response keeps the order.
            Some((to.characteristic.clone(), write_op(&to.flags, true), bytes.clone()))
        });
        let greeting = greeting.collect();
        Some(Channel { notify, write: write.characteristic.clone(), op, greeting, read })
    })
}

fn is_writable(flags: &CharacteristicFlags) -> bool {
    flags.write || flags.write_without_response
}

fn write_op(flags: &CharacteristicFlags, prefer_response: bool) -> WriteOp {
    let with_response = flags.write && (prefer_response || !flags.write_without_response);
    if with_response { WriteOp::Request } else { WriteOp::Command }
}

/// The channels that the battery has completely.
pub(super) fn existing<C: Clone>(
    candidates: &[Candidate<C>],
    channels: &[BleChannel],
) -> Vec<BleChannel> {
    let exists =
        |channel: &&BleChannel| choose(candidates, std::slice::from_ref(*channel)).is_some();
    channels.iter().filter(exists).cloned().collect()
}

/// Writes to a characteristic in pieces that fit into one packet each.
#[derive(Debug)]
pub(super) struct Writer {
    characteristic: Characteristic,
    request: CharacteristicWriteRequest,
    /// In bytes; [`MIN_WRITE`] before BlueZ 5.62, which does not report the MTU.
    pub(super) max_write: usize,
}

impl Writer {
    pub(super) async fn new(characteristic: Characteristic, op: WriteOp) -> Writer {
        let mtu = characteristic.mtu().await.unwrap_or_default();
        let request = CharacteristicWriteRequest { op_type: op, ..Default::default() };
        Writer { characteristic, request, max_write: (mtu + BLUER_MARGIN).max(MIN_WRITE) }
    }

    pub(super) fn pieces<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        bytes.chunks(self.max_write)
    }

    pub(super) async fn write(&self, piece: &[u8]) -> Result<()> {
        self.characteristic.write_ext(piece, &self.request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(service: u128, uuid: u128) -> CharacteristicId {
        CharacteristicId { service, uuid }
    }

    fn channel(notify: &[CharacteristicId], write: CharacteristicId) -> BleChannel {
        BleChannel {
            notify: notify.to_vec(),
            write,
            prefer_response: false,
            read_only: false,
            greeting: Vec::new(),
            read: Vec::new(),
        }
    }

    fn jk() -> BleChannel {
        channel(&[id(0xffe0, 0xffe1)], id(0xffe0, 0xffe1))
    }

    fn jbd() -> BleChannel {
        channel(&[id(0xff00, 0xff01)], id(0xff00, 0xff02))
    }

    fn candidate(
        (service, uuid): (u128, u128),
        abilities: &str,
        name: &'static str,
    ) -> Candidate<&'static str> {
        let mut flags = CharacteristicFlags::default();
        for ability in abilities.split_whitespace() {
            match ability {
                "notify" => flags.notify = true,
                "indicate" => flags.indicate = true,
                "write" => flags.write = true,
                "command" => flags.write_without_response = true,
                "read" => flags.read = true,
                other => panic!("{other}"),
            }
        }
        Candidate { id: id(service, uuid), flags, characteristic: name }
    }

    #[test]
    fn same_uuid_is_chosen_by_ability() {
        let both = [
            candidate((0xffe0, 0xffe1), "read write", "in"),
            candidate((0xffe0, 0xffe1), "notify write command", "out"),
        ];
        let chosen = choose(&both, &[jk()]).unwrap();
        assert_eq!((chosen.notify, chosen.write), (vec!["out"], "in"));

        let one = [candidate((0xffe0, 0xffe1), "notify write command", "both")];
        let chosen = choose(&one, &[jk()]).unwrap();
        assert_eq!((chosen.notify, chosen.write), (vec!["both"], "both"));
    }

    #[test]
    fn first_complete_channel_is_chosen() {
        let candidates = [
            candidate((0xff00, 0xff01), "notify", "first"),
            candidate((0xffe0, 0xffe1), "indicate write", "second"),
        ];
        assert_eq!(choose(&candidates, &[jbd(), jk()]).unwrap().notify, ["second"]);
        assert!(choose(&candidates, &[jbd()]).is_none());
    }

    #[test]
    fn uuid_in_another_service_does_not_match() {
        assert!(choose(&[candidate((0xff00, 0xffe1), "notify write", "other")], &[jk()]).is_none());
    }

    #[test]
    fn channel_may_span_services_and_notify_characteristics() {
        let renogy = channel(&[id(0xfff0, 0xfff1), id(0xfff0, 0xfff2)], id(0xffd0, 0xffd1));
        let mut candidates = vec![
            candidate((0xffd0, 0xffd1), "write", "write"),
            candidate((0xfff0, 0xfff1), "notify", "first"),
        ];
        assert!(choose(&candidates, std::slice::from_ref(&renogy)).is_none());
        candidates.push(candidate((0xfff0, 0xfff2), "indicate", "second"));
        let chosen = choose(&candidates, &[renogy]).unwrap();
        assert_eq!((chosen.notify, chosen.write), (vec!["first", "second"], "write"));
    }

    #[test]
    fn battery_that_is_only_read_needs_no_writable_characteristic() {
        let candidates = [candidate((0xffe0, 0xffe1), "notify", "only")];
        let chosen = choose(&candidates, &[BleChannel { read_only: true, ..jk() }]).unwrap();
        assert_eq!(chosen.notify, ["only"]);
        assert!(choose(&candidates, &[jk()]).is_none());
    }

    #[test]
    fn every_value_to_read_must_be_readable() {
        let (one, two) = ((0xfff0, 0xfff1), (0xfff0, 0xfff2));
        let read = vec![id(one.0, one.1), id(two.0, two.1)];
        let shunt = BleChannel { read_only: true, read, ..channel(&[], id(one.0, one.1)) };
        let chosen = |abilities| {
            let candidates = [candidate(one, "read", "first"), candidate(two, abilities, "second")];
            choose(&candidates, std::slice::from_ref(&shunt)).map(|chosen| chosen.read)
        };
        assert_eq!(chosen("read notify"), Some(vec!["first", "second"]));
        assert_eq!(chosen("write"), None);
    }

    #[test]
    fn response_is_requested_if_preferred_or_needed() {
        let op = |abilities: &str, prefer_response| {
            let candidates = [candidate((0xffe0, 0xffe1), &format!("notify {abilities}"), "both")];
            choose(&candidates, &[BleChannel { prefer_response, ..jk() }]).unwrap().op
        };
        assert_eq!(op("write command", false), WriteOp::Command);
        assert_eq!(op("write command", true), WriteOp::Request);
        assert_eq!(op("write", false), WriteOp::Request);
        assert_eq!(op("command", true), WriteOp::Command);
    }

    #[test]
    fn greeting_skips_what_the_battery_lacks() {
        let greeting =
            [(id(0xfff0, 0xfffa), b"one".to_vec()), (id(0xff00, 0xff05), b"two".to_vec())];
        let channel = BleChannel { greeting: greeting.to_vec(), ..jk() };
        let candidates = [
            candidate((0xffe0, 0xffe1), "notify command", "both"),
            candidate((0xff00, 0xff05), "write command", "greeting"),
        ];
        let chosen = choose(&candidates, &[channel]).unwrap();
        assert_eq!(chosen.greeting, [("greeting", WriteOp::Request, b"two".to_vec())]);
    }
}
