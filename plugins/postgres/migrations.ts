/** The tables that Bifold itself keeps. */
import { sql } from 'kysely'
import type { Migration } from 'kysely/migration'

export const migrations: Record<string, Migration> = {
  '0001-events': {
    async up (db) {
      await db.schema.createTable('events')
        .addColumn('position', 'bigint', column => column.primaryKey().generatedAlwaysAsIdentity())
        .addColumn('aggregate', 'text', column => column.notNull())
        .addColumn('aggregate_id', 'uuid', column => column.notNull())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('type', 'text', column => column.notNull())
        // json, not jsonb: the relay sends the text as it was written.
        .addColumn('value', 'json', column => column.notNull())
        .addColumn('request_id', 'text', column => column.notNull())
        .addColumn('traceparent', 'text', column => column.notNull())
        .addColumn('time', 'timestamptz', column => column.notNull())
        .addUniqueConstraint('events_version_unique', ['aggregate_id', 'version'])
        .execute()
      await sql`create publication bifold_events for table events with (publish = 'insert')`.execute(db)
    }
  },
  '0002-idempotency-keys': {
    async up (db) {
      await db.schema.createTable('idempotency_keys')
        .addColumn('key', 'text', column => column.primaryKey())
        .addColumn('fingerprint', 'text', column => column.notNull())
        .addColumn('answer', 'json', column => column.notNull())
        .addColumn('created_at', 'timestamptz', column => column.notNull().defaultTo(sql`now()`))
        .execute()
    }
  },
  '0003-old-idempotency-keys': {
    async up (db) {
      // Block ranges (BRIN): keys come in the order of their time, and an entry for each would cost every command.
      await sql`create index idempotency_keys_created_at on idempotency_keys using brin (created_at)`.execute(db)
    }
  },
  '0004-relay-checkpoints': {
    async up (db) {
      await db.schema.createTable('relay_checkpoints')
        .addColumn('topic', 'text', column => column.primaryKey())
        .addColumn('epoch', 'integer', column => column.notNull())
        .addColumn('mode', 'text', column => column.notNull())
        .addColumn('position', 'bigint', column => column.notNull())
        .addColumn('offsets', 'json', column => column.notNull())
        .addColumn('continuous', 'boolean', column => column.notNull())
        .execute()
    }
  },
  '0005-idempotency-digests': {
    async up (db) {
      // Of fixed size, without JSON, and without an index on the time: a key takes 120 bytes instead of 300, at every command.
      await sql`alter table idempotency_keys rename to idempotency_texts`.execute(db)
      await sql`alter index idempotency_keys_pkey rename to idempotency_texts_pkey`.execute(db)
      await sql`drop index idempotency_keys_created_at`.execute(db)
      await db.schema.createTable('idempotency_keys')
        .addColumn('digest', 'uuid', column => column.primaryKey())
        .addColumn('fingerprint', 'uuid', column => column.notNull())
        .addColumn('id', 'uuid', column => column.notNull())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('created_at', 'timestamptz', column => column.notNull().defaultTo(sql`now()`))
        .execute()
      await sql`
        insert into idempotency_keys (digest, fingerprint, id, version, created_at)
        select encode(substring(sha256(convert_to(key, 'UTF8')) for 16), 'hex')::uuid,
          encode(substring(decode(translate(fingerprint, '-_', '+/') || '=', 'base64') for 16), 'hex')::uuid,
          (answer->>'id')::uuid, (answer->>'version')::integer, created_at
        from idempotency_texts order by created_at`.execute(db)
      await sql`drop table idempotency_texts`.execute(db)
    }
  },
  '0006-relay-places': {
    async up (db) {
      await db.schema.alterTable('relay_checkpoints')
        .addColumn('place', 'text', column => column.notNull().defaultTo(''))
        .addColumn('place_offsets', 'json', column => column.notNull().defaultTo(sql`'[]'`))
        .execute()
      await sql`update relay_checkpoints set place_offsets = offsets`.execute(db)
    }
  },
  '0007-schema-versions': {
    async up (db) {
      // What was written before there were versions is of the first. No row is rewritten for that.
      await db.schema.alterTable('events').addColumn('schema_version', 'integer', column => column.notNull().defaultTo(1)).execute()
    }
  },
  '0008-process-events': {
    async up (db) {
      await db.schema.createTable('process_events')
        .addColumn('position', 'bigint', column => column.primaryKey().generatedAlwaysAsIdentity())
        .addColumn('process', 'text', column => column.notNull())
        .addColumn('aggregate_id', 'uuid', column => column.notNull())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('done', 'integer', column => column.notNull().defaultTo(0))
        .execute()
    }
  },
  '0009-queued-commands': {
    async up (db) {
      await db.schema.createTable('queued_commands')
        .addColumn('id', 'uuid', column => column.primaryKey())
        .addColumn('aggregate', 'text', column => column.notNull())
        .addColumn('aggregate_id', 'uuid')
        .addColumn('version', 'integer')
        .addColumn('seen', 'json')
        .addColumn('problem', 'json')
        .addColumn('created_at', 'timestamptz', column => column.notNull().defaultTo(sql`now()`))
        .execute()
      await db.schema.createTable('command_checkpoints')
        .addColumn('topic', 'text', column => column.notNull())
        .addColumn('partition', 'integer', column => column.notNull())
        .addColumn('next', 'bigint', column => column.notNull())
        .addPrimaryKeyConstraint('command_checkpoints_pkey', ['topic', 'partition'])
        .execute()
    }
  },
  '0010-command-topics': {
    async up (db) {
      // Null where the topic's id was not asked for yet.
      await db.schema.alterTable('command_checkpoints').addColumn('topic_id', 'text').execute()
    }
  },
  '0011-relay-slots': {
    async up (db) {
      // Null where the slot is of before each had a name of its own: the relay makes another, and catches up.
      await db.schema.alterTable('relay_checkpoints').addColumn('slot', 'text').execute()
    }
  }
}
