"""The tables of Chainlit's SQL data layers.

``SQLALCHEMY`` is what https://docs.chainlit.io/data-layers/sqlalchemy tells to create, with one
column more: ``autoCollapse``, without which Chainlit 2.12 cannot store a tool's step. It has no
index but the primary keys. ``SQLITE`` is the same with SQLite's types. ``ASYNCPG`` is what the
migrations of https://github.com/Chainlit/chainlit-datalayer make, indexes and foreign keys
included.
"""

from __future__ import annotations

import re

SQLALCHEMY_TABLES = ("users", "threads", "steps", "elements", "feedbacks")
SQLALCHEMY = """
create table users (
    id uuid primary key, identifier text not null unique, metadata jsonb not null,
    "createdAt" text
);
create table threads (
    id uuid primary key, "createdAt" text, name text,
    "userId" uuid references users (id) on delete cascade,
    "userIdentifier" text, tags text[], metadata jsonb
);
create table steps (
    id uuid primary key, name text not null, type text not null,
    "threadId" uuid not null references threads (id) on delete cascade,
    "parentId" uuid, streaming boolean not null, "waitForAnswer" boolean, "isError" boolean,
    metadata jsonb, tags text[], input text, output text, "createdAt" text, command text,
    start text, "end" text, generation jsonb, "showInput" text, language text, indent int,
    "defaultOpen" boolean, modes jsonb, "autoCollapse" boolean
);
create table elements (
    id uuid primary key, "threadId" uuid references threads (id) on delete cascade,
    type text, url text, "chainlitKey" text, name text not null, display text,
    "objectKey" text, size text, page int, language text, "forId" uuid, mime text, props jsonb
);
create table feedbacks (
    id uuid primary key, "forId" uuid not null,
    "threadId" uuid not null references threads (id) on delete cascade,
    value int not null, comment text
);
"""

SQLITE = re.sub(r"\b(uuid|jsonb|text\[\])", "text", SQLALCHEMY)

ASYNCPG_TABLES = ("User", "Thread", "Step", "Element", "Feedback")
_MADE = """
    id text not null default gen_random_uuid() primary key,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp
"""
ASYNCPG = """
create type "StepType" as enum (
    'assistant_message', 'embedding', 'llm', 'retrieval', 'rerank', 'run', 'system_message',
    'tool', 'undefined', 'user_message'
);
create table "User" (:made, metadata jsonb not null, identifier text not null);
create table "Thread" (:made,
    "deletedAt" timestamp(3), name text, metadata jsonb not null,
    "userId" text references "User" (id) on delete set null on update cascade,
    tags text[] default array[]::text[]
);
create table "Step" (:made,
    "parentId" text references "Step" (id) on delete cascade on update cascade,
    "threadId" text references "Thread" (id) on delete cascade on update cascade,
    input text, metadata jsonb not null, name text, output text, type "StepType" not null,
    "showInput" text default 'json', "isError" boolean default false,
    "startTime" timestamp(3) not null, "endTime" timestamp(3) not null
);
create table "Element" (:made,
    "threadId" text references "Thread" (id) on delete cascade on update cascade,
    "stepId" text not null references "Step" (id) on delete cascade on update cascade,
    metadata jsonb not null, mime text, name text not null, "objectKey" text, url text,
    "chainlitKey" text, display text, size text, language text, page integer, props jsonb
);
create table "Feedback" (:made,
    "stepId" text references "Step" (id) on delete set null on update cascade,
    name text not null, value double precision not null, comment text
);
create unique index on "User" (identifier);
create index on "User" (identifier);
create index on "Thread" ("createdAt");
create index on "Thread" (name);
create index on "Step" ("createdAt");
create index on "Step" ("startTime");
create index on "Step" ("endTime");
create index on "Step" ("parentId");
create index on "Step" ("threadId");
create index on "Step" (type);
create index on "Step" (name);
create index on "Step" ("threadId", "startTime", "endTime");
create index on "Element" ("stepId");
create index on "Element" ("threadId");
create index on "Feedback" ("createdAt");
create index on "Feedback" (name);
create index on "Feedback" ("stepId");
create index on "Feedback" (value);
create index on "Feedback" (name, value);
""".replace(":made", _MADE)
