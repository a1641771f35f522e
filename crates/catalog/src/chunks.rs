//! Where each chunk lies: the index over the chunk store's packs.

use std::collections::BTreeMap;

use model::ProjectId;
use model::packs::PackState;
use model::quotas::Resource;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::fields::{Fields as _, size};
use crate::statement::{Statement, Value, sql, sql_text};
use crate::{Error, ErrorKind, Result, Tx, packs};

/// Ids that one statement looks up: they travel as one parameter of this many times 32 bytes.
const FIND_BATCH: usize = 1024;
/// Rows that one statement adds: seven parameters each, and SQLite allows 32 766.
const ADD_BATCH: usize = 256;

/// Where a stored chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack that holds it.
    pub pack: Uuid,
    /// Where in the pack it begins, in bytes.
    pub offset: u32,
    /// Its length in the pack, sealed, in bytes.
    pub stored: u32,
    /// Its length before compression and sealing, in bytes.
    pub plain: u32,
    /// Which generation of the domain's secret seals it.
    pub generation: u32,
}

/// A stored chunk that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub location: Location,
    /// How its pack stands.
    pub state: PackState,
    /// Its pack was found to be damaged.
    pub damaged: bool,
}

/// Returns where the chunks of a dedup domain lie, in the order asked; none for those not stored.
///
/// The ids of a batch travel as one blob which the database cuts up, so that the statement is the same for any number of
/// them and stays prepared. The answer comes as one text for all, since a row for each took longer in the driver
/// (`cargo xtask bench index`).
pub async fn find(tx: &mut Tx, domain: Uuid, ids: &[[u8; 32]]) -> Result<Vec<Option<Found>>> {
    let mut found = vec![None; ids.len()];
    let pack = tx.dialect().hex("pack");
    for (ids, found) in ids.chunks(FIND_BATCH).zip(found.chunks_mut(FIND_BATCH)) {
        let query = sql_text(format!(
            "WITH RECURSIVE wanted (place) AS (\
                 SELECT 0 UNION ALL SELECT place + 1 FROM wanted WHERE place + 1 < $3) \
             SELECT string_agg(place || ' ' || {pack} || ' ' || pack_offset || ' ' || stored || ' ' || plain || ' ' || \
                 generation || ' ' || packs.state || ' ' || CASE WHEN packs.damage IS NULL THEN 0 ELSE 1 END, ',') AS found \
             FROM wanted CROSS JOIN chunks CROSS JOIN packs \
             WHERE chunks.domain = $1 AND chunks.id = substr($2, place * 32 + 1, 32) AND packs.id = chunks.pack"
        ))
        .bind(domain.as_bytes().to_vec())
        .bind(ids.concat())
        .bind(i64::try_from(ids.len()).unwrap_or(i64::MAX));
        let text: Option<String> = tx.row(query).await?.map_or(Ok(None), |row| row.field("found"))?;
        for entry in text.as_deref().unwrap_or_default().split_terminator(',') {
            let (place, chunk) = parse_found(entry).ok_or_else(|| {
                Error::new(ErrorKind::Other, format!("the catalog tells of a chunk what cannot be: `{entry}`"))
            })?;
            if let Some(slot) = found.get_mut(place) {
                *slot = Some(chunk);
            }
        }
    }
    Ok(found)
}

/// Reads the place among those asked for, and what was found there.
fn parse_found(entry: &str) -> Option<(usize, Found)> {
    let mut words = entry.split(' ');
    let mut word = || words.next();
    let place = word()?.parse().ok()?;
    let pack = Uuid::try_parse(word()?).ok()?;
    let mut number = || word()?.parse().ok();
    let [offset, stored, plain, generation] = [number()?, number()?, number()?, number()?];
    let (state, damaged) = (word()?.parse().ok()?, word()? == "1");
    let location = Location { pack, offset, stored, plain, generation };
    Some((place, Found { location, state, damaged }))
}

/// Records a sealed pack of `bytes` bytes that the session `writer` made, and the chunks in it, as (domain, id, location).
///
/// The new chunks count as bytes stored by their domain's project, whose quota may refuse them when the transaction
/// commits. Doing it twice changes nothing, and a pack that is being removed is left alone. A chunk that is known already
/// keeps the location it has, even in a condemned pack: whoever did not find it there had begun before that was condemned.
/// Only where its pack was found to be damaged it moves to the new one.
pub async fn add_pack(
    tx: &mut Tx,
    writer: u64,
    pack: Uuid,
    bytes: u64,
    blobs: &[(Uuid, [u8; 32], Location)],
) -> Result<()> {
    let now = tx.dialect().now();
    let text = format!(
        "INSERT INTO packs (id, state, size, created_at, checked_at, writer) VALUES ($1, 'sealed', $2, {now}, {now}, $3) \
         ON CONFLICT DO NOTHING"
    );
    let query = sql_text(text).bind(pack.as_bytes().to_vec()).bind(size(bytes)?).bind(size(writer)?);
    if tx.execute(query).await? == 0
        && packs::standing(tx, pack).await?.is_some_and(|standing| standing.state == PackState::Deleting)
    {
        return Ok(());
    }

    // In order of their keys, so that two packs with the same chunks wait for each other instead of deadlocking.
    let mut sorted = BTreeMap::new();
    for (domain, id, location) in blobs {
        sorted.entry((*domain, *id)).or_insert(*location);
    }
    let rows: Vec<_> = sorted.into_iter().collect();
    for batch in rows.chunks(ADD_BATCH) {
        let mut statement =
            Statement::new("INSERT INTO chunks (domain, id, pack, pack_offset, stored, plain, generation) VALUES ");
        for (number, ((domain, id), location)) in batch.iter().enumerate() {
            statement.push(if number == 0 { "(" } else { ", (" });
            statement
                .list([domain.as_bytes(), &id[..], location.pack.as_bytes()].map(|bytes| Value::Bytes(bytes.to_vec())));
            let numbers = [location.offset, location.stored, location.plain, location.generation];
            statement.push(", ").list(numbers.map(i64::from));
            statement.push(")");
        }
        statement.push(" ON CONFLICT DO NOTHING RETURNING domain, stored");
        let added = tx.rows(statement.query()).await?;
        count(tx, &added, 1)?;
    }
    replace_damaged(tx, pack, &rows).await
}

/// Lets the index lead to those of `rows` in `pack` that it finds in another pack which was found to be damaged.
async fn replace_damaged(tx: &mut Tx, pack: Uuid, rows: &[((Uuid, [u8; 32]), Location)]) -> Result<()> {
    const DAMAGED: &str = "SELECT packs.id FROM packs WHERE packs.damage IS NOT NULL AND packs.id <> $1";
    let any = sql_text(format!("{DAMAGED} LIMIT 1")).bind(pack.as_bytes().to_vec());
    if tx.row(any).await?.is_none() {
        return Ok(());
    }
    for ((domain, id), location) in rows {
        let query = sql_text(format!(
            "SELECT domain, stored FROM chunks WHERE domain = $2 AND id = $3 AND pack IN ({DAMAGED}){}",
            tx.lock()
        ))
        .bind(pack.as_bytes().to_vec())
        .bind(domain.as_bytes().to_vec())
        .bind(id.to_vec());
        let before = tx.rows(query).await?;
        if before.is_empty() {
            continue;
        }
        count(tx, &before, -1)?;
        let query = sql_text(format!(
            "UPDATE chunks SET pack = $4, pack_offset = $5, stored = $6, plain = $7, generation = $8 \
             WHERE domain = $2 AND id = $3 AND pack IN ({DAMAGED}) RETURNING domain, stored"
        ))
        .bind(pack.as_bytes().to_vec())
        .bind(domain.as_bytes().to_vec())
        .bind(id.to_vec())
        .bind(location.pack.as_bytes().to_vec())
        .bind(i64::from(location.offset))
        .bind(i64::from(location.stored))
        .bind(i64::from(location.plain))
        .bind(i64::from(location.generation));
        let after = tx.rows(query).await?;
        count(tx, &after, 1)?;
    }
    Ok(())
}

/// Forgets those of `blobs`, as (domain, id, pack), that lie in that pack.
pub async fn forget(tx: &mut Tx, blobs: &[(Uuid, [u8; 32], Uuid)]) -> Result<()> {
    let mut sorted = blobs.to_vec();
    sorted.sort_unstable();
    for (domain, id, pack) in sorted {
        let query = sql("DELETE FROM chunks WHERE domain = $1 AND id = $2 AND pack = $3 RETURNING domain, stored");
        let query = query.bind(domain.as_bytes().to_vec()).bind(id.to_vec()).bind(pack.as_bytes().to_vec());
        let gone = tx.rows(query).await?;
        count(tx, &gone, -1)?;
    }
    Ok(())
}

/// Forgets all that lies in `pack`, which is slow: for one that cannot tell what it holds.
pub async fn forget_all(tx: &mut Tx, pack: Uuid) -> Result<()> {
    let query = sql("DELETE FROM chunks WHERE pack = $1 RETURNING domain, stored");
    let gone = tx.rows(query.bind(pack.as_bytes().to_vec())).await?;
    count(tx, &gone, -1)
}

/// Counts chunks that came (`sign` 1) or went (-1) as bytes stored by the projects of their domains.
fn count(tx: &mut Tx, chunks: &[AnyRow], sign: i64) -> Result<()> {
    for row in chunks {
        let project = ProjectId::from(Uuid::from_bytes(row.bytes("domain")?));
        tx.count(project, Resource::StoredBytes, sign * i64::from(row.number::<u32>("stored")?));
    }
    Ok(())
}

/// Lets the index lead to the copies of chunks, as (domain, id, pack where it was, location now); those that lie
/// elsewhere by now stay there. A chunk is copied as it is sealed, so that its length stays: nothing is counted.
pub async fn relocate(tx: &mut Tx, moved: &[(Uuid, [u8; 32], Uuid, Location)]) -> Result<()> {
    let mut sorted: Vec<_> = moved.iter().collect();
    sorted.sort_unstable_by_key(|(domain, id, ..)| (*domain, *id));
    for (domain, id, from, to) in sorted {
        let query = sql("UPDATE chunks SET pack = $4, pack_offset = $5, plain = $7, generation = $8 \
             WHERE domain = $1 AND id = $2 AND pack = $3 AND stored = $6")
        .bind(domain.as_bytes().to_vec())
        .bind(id.to_vec())
        .bind(from.as_bytes().to_vec())
        .bind(to.pack.as_bytes().to_vec())
        .bind(i64::from(to.offset))
        .bind(i64::from(to.stored))
        .bind(i64::from(to.plain))
        .bind(i64::from(to.generation));
        tx.execute(query).await?;
    }
    Ok(())
}
