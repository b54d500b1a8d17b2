//! What the Redis of `[redis]` says of itself: whether it can be used, and whether it keeps things.

use crate::cli::connect::block_on;
use crate::cli::doctor::finding::Finding;
use crate::cli::failure::Failure;
use crate::policy::model::{Policy, Redis};
use crate::store::redis::{Client, Facts, RedisError};

/// The oldest release that has streams.
const OLDEST: u32 = 5;

/// Everything about the Redis of a policy, if it has one.
pub(super) fn look(policy: &Policy) -> Result<Vec<Finding>, Failure> {
    let Some(redis) = &policy.redis else { return Ok(Vec::new()) };
    let facts = block_on(Box::pin(ask(redis)))?;
    Ok(match facts {
        Ok(facts) => judge(redis, &facts),
        Err(error) => vec![Finding::warning(
            "redis-unusable",
            format!("the state is not kept in Redis: failed to {error}"),
            error.reason().help(),
        )],
    })
}

async fn ask(redis: &Redis) -> Result<Facts, RedisError> {
    Client::connect(redis).await?.facts().await
}

fn judge(redis: &Redis, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |name, message: String, help| found.push(Finding::warning(name, message, help));
    if let Some(version) = &facts.version
        && version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .is_some_and(|m: u32| m < OLDEST)
    {
        say(
            "redis-old",
            format!("{redis} is Redis {version}, without streams"),
            "use Redis 5 or later",
        );
    }
    if facts.role.as_deref() == Some("slave") {
        say(
            "redis-replica",
            format!("{redis} is a replica, and takes no writes"),
            "set redis.url to the master",
        );
    }
    let evicts = facts.eviction.as_deref().filter(|policy| policy.starts_with("allkeys-"));
    if let (Some(policy), Some(true)) = (evicts, facts.bounded) {
        let message = format!("{redis} may evict the state: maxmemory-policy is {policy}");
        say("redis-evicts", message, "set maxmemory-policy to noeviction or volatile-*");
    }
    if facts.aof == Some(false) && facts.snapshots == Some(false) {
        let message =
            format!("{redis} keeps nothing over a restart: neither appendonly nor save is set");
        say("redis-forgets", message, "set appendonly yes, if recovery from it matters");
    }
    found
}
