//! What is told, and what is shown.

use crate::core::action::Event;
use crate::core::health::Health;
use crate::core::id::Revision;
use crate::core::input::Input;
use crate::core::outcome::Outcome;
use crate::core::status::ServiceState;

use super::world::*;

#[test]
fn a_change_of_health_is_told_once_with_its_cause() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", REFUSED);
    world.run(secs(300));
    let told: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::StatusChange { .. }))
        .collect();
    assert_eq!(
        told,
        [Event::StatusChange {
            service: s(),
            endpoint: e("b"),
            from: Health::Healthy,
            to: Health::Unhealthy,
            cause: "refused".to_owned(),
        }]
    );
}

#[test]
fn an_output_that_fails_is_told_once_and_when_it_works_again() {
    let mut world = World::settled(service("s", &[0]));
    let write = |world: &mut World, failure: Option<&str>| {
        world.input(Input::Written {
            output: "env".into(),
            revision: Revision::new(1),
            failure: failure.map(Into::into),
        });
    };
    write(&mut world, None);
    write(&mut world, Some("disk full"));
    write(&mut world, Some("disk full"));
    write(&mut world, None);
    assert_eq!(world.count(|e| matches!(e, Event::Output { failure: Some(_), .. })), 1);
    assert_eq!(world.count(|e| matches!(e, Event::Output { failure: None, .. })), 1);
    let status = world.engine.status(world.now);
    assert_eq!(status.outputs["env"].revision, Some(Revision::new(1)));
}

#[test]
fn status_shows_the_service_in_one_word() {
    let mut world = World::one_with(service("s", &[0, 1]), &[("a", Mood::Lost), ("b", Mood::Lost)]);
    assert_eq!(world.status("s").state, ServiceState::Starting);
    world.mood("s", "a", UP);
    world.mood("s", "b", UP);
    world.run(secs(60));
    assert_eq!(world.status("s").state, ServiceState::Healthy);
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.run(secs(1));
    assert_eq!(world.status("s").state, ServiceState::FailedOver);
    assert_eq!(
        world.endpoint("s", "a").unusable.as_deref(),
        Some("3 failures in a row, last refused")
    );
}

#[test]
fn an_explanation_names_the_verdict_every_candidate_and_the_bounds() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.mood("s", "a", UP);
    world.run(secs(60));
    let explained = world.engine.explain(world.now, &s()).unwrap();
    assert_eq!(explained.detection.shallow.refused, secs(12));
    assert_eq!(explained.detection.shallow.silent, secs(17));
    assert_eq!((explained.budget.left, explained.budget.of), (5, 6));
    let text = explained.to_string();
    for part in [
        "s: failed_over, at b",
        "* b (tier 1)",
        "return to a: it must stay usable",
        "12.0 s (refused)",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(serde_json::to_string(&explained).is_ok());
    assert_eq!(world.engine.explain(world.now, &crate::core::id::ServiceName::new("nobody")), None);
}

#[test]
fn the_detail_of_a_result_reaches_the_evidence() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Says(Outcome::ServerError));
    world.time_to("s", "b", secs(20)).unwrap();
    assert!(world.decisions()[0].cause.starts_with("a: 3 failures in a row, last server_error"));
    assert_eq!(world.decisions()[0].evidence[0].detail.as_deref(), Some("HTTP 503"));
}
