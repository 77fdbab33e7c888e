//! Messages as bytes.

use gnomon_link::*;
use proptest::prelude::*;

use crate::SOON;
use crate::strategies::{to_exec, to_gnomon, to_proxy, to_sensor};

fn there_and_back<M: Message + PartialEq>(message: &M) -> Result<(), TestCaseError> {
    let bytes = encode(message).unwrap();
    prop_assert!(bytes.len() <= MAX_MESSAGE);
    prop_assert_eq!(&decode::<M>(&bytes).unwrap(), message);
    prop_assert!(message.descriptors().len() <= MAX_DESCRIPTORS);
    let longer = [bytes.as_slice(), &[0]].concat();
    prop_assert_eq!(decode::<M>(&longer), Err(DecodeError::TrailingBytes { message: M::NAME, extra: 1 }));
    // No prefix of a message is a message.
    for end in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
        prop_assert!(decode::<M>(&bytes[..end]).is_err());
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_is_read_to_the_sensor(message in to_sensor()) {
        there_and_back(&message)?;
    }

    #[test]
    fn what_is_written_is_read_to_the_proxy(message in to_proxy()) {
        there_and_back(&message)?;
    }

    #[test]
    fn what_is_written_is_read_to_gnomon(message in to_gnomon()) {
        there_and_back(&message)?;
    }

    #[test]
    fn what_is_written_is_read_to_exec(message in to_exec()) {
        there_and_back(&message)?;
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = decode::<ToProxy>(&bytes) {
            there_and_back(&message)?;
        }
    }

    #[test]
    fn messages_without_descriptors_pass_a_socket(asked in to_sensor(), answered in to_exec()) {
        let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
        proxy.send(&asked, &[], SOON).unwrap();
        prop_assert_eq!(sensor.recv(SOON).unwrap().message, asked);
        let (gnomon, client): (GnomonEnd, ExecEnd) = Channel::pair().unwrap();
        if answered.descriptors().is_empty() {
            gnomon.send(&answered, &[], SOON).unwrap();
            prop_assert_eq!(client.recv(SOON).unwrap().message, answered);
        }
    }
}

#[test]
fn the_largest_identity_fits_into_a_message() {
    fn full<const N: usize>() -> Text<N> {
        Text::new("x".repeat(N)).unwrap()
    }
    let identity = Identity {
        pid: u32::MAX,
        started_boot_ns: u64::MAX,
        generation: GenerationEvidence::Unverified,
        executable: Executable::File { path: full(), image: Image::Memory, sha256: Some([0xFF; 32]) },
        command_line: CommandLine::Cut(full()),
        credentials: Some(Credentials {
            uid: u32::MAX,
            effective_uid: u32::MAX,
            user: Some(full()),
            gid: u32::MAX,
            groups: List::new(vec![u32::MAX; 64]).unwrap(),
            group_names: List::new(vec![full(); 64]).unwrap(),
        }),
        ancestors: List::new(vec![Ancestor { pid: u32::MAX, executable: Some(full()) }; 8]).unwrap(),
        cgroup: full(),
        containers: List::new(vec![Container { id: full(), runtime: full(), standing: NameOrigin::Claimed(u32::MAX) }; 4]).unwrap(),
        pod: Some(full()),
    };
    let message = ToProxy::Process { token: u64::MAX, found: IdentityAnswer::Identity(Box::new(identity)) };
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    sensor.send(&message, &[], SOON).unwrap();
    assert_eq!(proxy.recv(SOON).unwrap().message, message);
}

#[test]
fn more_than_a_bound_is_an_error_on_either_end() {
    assert_eq!(Label::new("x".repeat(65)), Err(TooMany { length: 65, bound: 64 }));
    assert!(List::<u16, 16>::new(vec![0; 17]).is_err());
    // Listed ports, seventeen of them.
    let mut bytes = encode(&ToSensor::Scope {
        token: 0,
        change: ScopeChange::Default {
            settings: ScopeSettings {
                id: 0,
                mode: Mode::Redirect,
                ports: Ports::Listed(List::new(vec![1; 16]).unwrap()),
                quic: Quic::Refuse,
                fail: Fail::Open,
            },
        },
    })
    .unwrap();
    let count = bytes.iter().position(|b| *b == 16).unwrap();
    bytes[count] = 17;
    bytes.insert(count + 1, 1);
    assert_eq!(decode::<ToSensor>(&bytes), Err(DecodeError::OutOfBounds(ToSensor::NAME)));
    // A list that claims four billion entries.
    assert!(matches!(
        decode::<ToProxy>(&[5, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
        Err(DecodeError::Malformed { .. } | DecodeError::OutOfBounds(_))
    ));
}

#[test]
fn parts_that_are_too_much_together_are_not_sent() {
    let counts = List::cut(vec![Count { outcome: Text::cut(&"x".repeat(64)), count: u64::MAX }; 32]);
    let programs = List::cut(vec![Program { name: Text::cut("gn_connect4"), counts }; 64]);
    let (sensor, _proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    let sent = sensor.send(&ToProxy::Counters { token: 1, programs }, &[], SOON);
    assert!(matches!(sent, Err(LinkError::Encode(EncodeError::TooLong(_)))), "{sent:?}");
}

#[test]
fn the_next_variant_is_unknown_by_number() {
    fn next<M: Message + PartialEq>() {
        let variant = M::VARIANTS;
        let bytes = [variant as u8, 0, 0, 0, 0];
        assert_eq!(decode::<M>(&bytes), Err(DecodeError::UnknownVariant { message: M::NAME, variant }));
    }
    next::<ToSensor>();
    next::<ToProxy>();
    next::<ToGnomon>();
    next::<ToExec>();
    // The last variant of version 1.0.
    assert_eq!(decode(&[5, 9]), Ok(ToSensor::Counters { token: 9 }));
    assert_eq!(decode(&[7, 9, 3, 0]), Ok(ToProxy::Refused { token: 9, why: RefusalReason::Full, detail: Text::default() }));
    assert_eq!(decode(&[1, 0, 0]), Ok(ToExec::Joined { cgroup: Text::default(), bundle: Bundle::None }));
}

#[test]
fn long_texts_are_cut_between_characters_and_bytes_become_text() {
    assert_eq!(Text::<4>::cut("abcé").as_str(), "abc");
    assert_eq!(Text::<5>::cut("abcé").as_str(), "abcé");
    assert_eq!(Text::<16>::lossy(b"/tmp/\xFFx").as_str(), "/tmp/\u{FFFD}x");
    assert!(Text::<4>::lossy(&[0xFF; 4000]).len() <= 4);
}
