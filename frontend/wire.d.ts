/*
 * The shapes that cross a border: what the server sends, and what the watching policy takes and returns.
 * Checked by tsc, never loaded by a browser; it must not decide anything.
 * Next: PROTOCOL.md, sections 2 to 4; client/watchdog.js.
 */

// --- from the server

export type State =
  "queued" | "running" | "completed" | "completed_with_errors" | "failed" | "cancelled" | (string & {});

export interface Progress {
  total: number | null;
  processed: number;
  succeeded: number;
  failed: number;
  skipped: number;
  percent: number | null;
  rate_per_second: number | null;
  eta_seconds: number | null;
  stage: string | null;
  message: string | null;
  current: string[];
}

export interface ItemError {
  index: number;
  name: string;
  code: string;
  message: string | null;
}

export interface Job {
  id: string;
  seq: number;
  kind: string;
  name: string | null;
  state: State;
  done: boolean;
  cancel_requested: boolean;
  cancel_requested_at?: string | null;
  health: "ok" | "waiting_long" | "stalled" | "unresponsive" | null;
  attempt: number;
  max_attempts: number;
  progress: Progress;
  error: { code: string; message: string; transient?: boolean } | null;
  item_errors: ItemError[];
  created_at: string;
  started_at: string | null;
  progress_at: string | null;
  heartbeat_at: string | null;
  finished_at: string | null;
  expires_at?: string | null;
  server_time: string;
  poll_after_ms: number | null;
  links: {
    self: string;
    events: string;
    items: string;
    timeline?: string;
    cancel: string;
    retry: string | null;
    results: string | null;
  };
}

export interface Item {
  index: number;
  name: string;
  state: string;
  size: number | null;
  message: string | null;
  error: { code: string; message: string } | null;
  result: Record<string, unknown> | null;
  attempt: number;
  worker: string | null;
  links?: { result?: string };
}

export interface Option {
  name: string;
  type: "integer" | "number" | "boolean" | "text" | "choice";
  required: boolean;
  nullable?: boolean;
  default: unknown;
  minimum: number | null;
  maximum: number | null;
  choices: (string | number)[] | null;
  description: string | null;
}

export interface Kind {
  name: string;
  title: string;
  description: string;
  accept: string | null;
  needs_file: boolean;
  options: Option[];
}

export interface Limits {
  max_files: number;
  max_file_bytes: number;
  max_job_bytes: number;
  max_name_length: number;
}

// --- the watching policy

/** The part of a job that the policy reads. */
export interface Standing {
  seq: number;
  done: boolean;
  poll_after_ms?: number | null;
}

export type PollReason = "reconnect" | "late" | "watchdog" | "behind" | "wake" | "fallback" | "manual";
export type Phase = "new" | "watching" | "ended" | "not_found" | "gave_up";
export type Link =
  "connecting" | "live" | "catching_up" | "polling" | "offline" | "signed_out" | "not_found" | "gave_up" | "ended";

export interface WatchStream {
  number: number;
  requested_at: number;
  /** The seq held when it was requested; null after its first job. */
  seq_at_request: number | null;
  opened_at: number | null;
  first_event_at: number | null;
  /** The next heartbeat is promised within this time. */
  heartbeat_ms: number;
  /** A heartbeat counts as missed from here on; null before the first event. */
  late_at: number | null;
  /** And a second one. */
  suspect_at: number | null;
}

/** All that the policy remembers. Times are milliseconds of the caller's clock. */
export interface WatchState {
  phase: Phase;
  link: Link;
  /** The highest seq held; -1 before the first. */
  seq: number;
  done: boolean;
  started_at: number;
  /** When the job's state was last confirmed, by whatever means. */
  confirmed_at: number | null;
  give_up_at: number;
  wake_at: number | null;
  /** The stream in use, and the one that replaces it with its first event. */
  stream: WatchStream | null;
  spare: WatchStream | null;
  next_stream: number;
  stream_failures: number;
  reopen_at: number | null;
  /** The poll in flight. */
  poll: { number: number; reason: PollReason; requested_at: number } | null;
  next_poll: number;
  poll_at: number | null;
  poll_reason: PollReason;
  /** Why another poll was requested while one is in flight. */
  poll_wanted: PollReason | null;
  poll_failures: number;
  poll_after_ms: number;
  /** The last poll was answered, and no stream has sent an event since. */
  polling: boolean;
  /** Why the last poll failed; `status` is null if it got no answer. */
  failure: { status: number | null; code: string | null } | null;
  browser_offline: boolean;
  signed_out: boolean;
  not_found_answers: number;
  lower_seq_answers: number;
}

export type WatchEvent =
  | { type: "start"; job?: Standing | null }
  | { type: "stream_open" | "items" | "gone" | "stream_error"; stream: number }
  | { type: "job"; stream: number; job: Standing }
  | { type: "heartbeat"; stream: number; seq: number | null; next_ms?: number | null }
  | { type: "leaving"; stream: number; retry_ms: number }
  | { type: "poll_ok"; poll: number; job: Standing }
  | { type: "poll_not_modified"; poll: number }
  | {
      type: "poll_failed";
      poll: number;
      status: number | null;
      code?: string | null;
      retry_after_ms?: number | null;
    }
  /** Another call, such as cancel, was answered with the job. */
  | { type: "job_answered"; job: Standing }
  | { type: "page_shown" | "online" | "offline" | "manual_check" | "tick" };

export type WatchAction =
  | { type: "open_stream" | "close_stream"; stream: number }
  | { type: "poll"; poll: number; reason: PollReason }
  | { type: "abort_poll"; poll: number }
  | { type: "show" }
  | { type: "wake_at"; at_ms: number | null }
  | { type: "end"; reason: "ended" | "not_found" | "gave_up"; elapsed_minutes: number };

// --- words

export type Words = { [key: string]: string | { one: string; other: string; [plural: string]: string } };
