//! Where on a battery the conversation is: characteristics by what they can do and by UUID.

use bluer::gatt::CharacteristicFlags;
use bluer::gatt::WriteOp;
use bluer::gatt::remote::{Characteristic, CharacteristicWriteRequest};
use bluer::{Device, Result};

use super::BlePlace;

/// What always fits into one packet, whatever was negotiated.
const SMALLEST_WRITE: usize = 20;

/// bluer takes 5 bytes off what BlueZ says; the header of a write has 3.
const BLUER_MARGIN: usize = 2;

/// A characteristic as far as the choice needs it.
#[derive(Debug, Clone)]
pub(super) struct Offer<C> {
    service: u128,
    uuid: u128,
    flags: CharacteristicFlags,
    characteristic: C,
}

/// Both ends of the conversation.
#[derive(Debug, Clone)]
pub(super) struct Chosen<C> {
    /// Index of the place.
    pub(super) place: usize,
    pub(super) notify: C,
    pub(super) write: C,
    pub(super) kind: WriteOp,
}

/// All that the battery offers, in the order of its handles.
pub(super) async fn offers(device: &Device) -> Result<Vec<Offer<Characteristic>>> {
    let mut offers = Vec::new();
    for service in device.services().await? {
        let uuid = service.uuid().await?.as_u128();
        for characteristic in service.characteristics().await? {
            offers.push(Offer {
                service: uuid,
                uuid: characteristic.uuid().await?.as_u128(),
                flags: characteristic.flags().await?,
                characteristic,
            });
        }
    }
    offers.sort_by_key(|offer| (offer.characteristic.service_id(), offer.characteristic.id()));
    Ok(offers)
}

/// The first place that the battery has. JK modules have two characteristics of one UUID, one for
/// each direction, so what a characteristic can do decides.
pub(super) fn choose<C: Clone>(offers: &[Offer<C>], places: &[BlePlace]) -> Option<Chosen<C>> {
    places.iter().enumerate().find_map(|(index, place)| {
        let find = |uuid, able: fn(&CharacteristicFlags) -> bool| {
            offers.iter().find(|o| o.service == place.service && o.uuid == uuid && able(&o.flags))
        };
        let notify = find(place.notify, |flags| flags.notify || flags.indicate)?;
        let write = find(place.write, |flags| flags.write_without_response || flags.write)?;
        Some(Chosen {
            place: index,
            notify: notify.characteristic.clone(),
            write: write.characteristic.clone(),
            kind: match write.flags.write_without_response {
                true => WriteOp::Command,
                false => WriteOp::Request,
            },
        })
    })
}

/// How many bytes one write may have. BlueZ before 5.62 does not say.
pub(super) async fn longest_write(write: &Characteristic) -> usize {
    let mtu = write.mtu().await.unwrap_or_default();
    (mtu + BLUER_MARGIN).max(SMALLEST_WRITE)
}

/// The words for one write.
pub(super) fn request(kind: WriteOp) -> CharacteristicWriteRequest {
    CharacteristicWriteRequest { op_type: kind, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: BlePlace = BlePlace { service: 0xffe0, notify: 0xffe1, write: 0xffe1 };
    const OTHER: BlePlace = BlePlace { service: 0xff00, notify: 0xff01, write: 0xff02 };

    fn offer(service: u128, uuid: u128, able: &str, name: &'static str) -> Offer<&'static str> {
        let mut flags = CharacteristicFlags::default();
        for word in able.split_whitespace() {
            match word {
                "notify" => flags.notify = true,
                "indicate" => flags.indicate = true,
                "write" => flags.write = true,
                "command" => flags.write_without_response = true,
                "read" => flags.read = true,
                other => panic!("{other}"),
            }
        }
        Offer { service, uuid, flags, characteristic: name }
    }

    #[test]
    fn of_two_with_one_uuid_each_direction_takes_the_first_that_is_able() {
        let both = [
            offer(0xffe0, 0xffe1, "read write", "in"),
            offer(0xffe0, 0xffe1, "notify write command", "out"),
        ];
        let chosen = choose(&both, &[PLACE]).unwrap();
        assert_eq!((chosen.notify, chosen.write), ("out", "in"));
        assert_eq!(chosen.kind, WriteOp::Request);

        let one = [offer(0xffe0, 0xffe1, "notify write command", "both")];
        let chosen = choose(&one, &[PLACE]).unwrap();
        assert_eq!((chosen.notify, chosen.write, chosen.kind), ("both", "both", WriteOp::Command));
    }

    #[test]
    fn the_first_place_that_is_whole_is_taken() {
        let offers = [
            offer(0xff00, 0xff01, "notify", "first"),
            offer(0xffe0, 0xffe1, "indicate write", "second"),
        ];
        let chosen = choose(&offers, &[OTHER, PLACE]).unwrap();
        assert_eq!((chosen.place, chosen.notify), (1, "second"));
        assert!(choose(&offers, &[OTHER]).is_none());
        // The right UUID in a foreign service is another thing.
        assert!(choose(&[offer(0xff00, 0xffe1, "notify write", "alien")], &[PLACE]).is_none());
    }
}
