/*
 * Declares the types of what the server sends, and of what the watching policy takes and returns.
 * It must not hold code: tsc checks it, and no browser loads it.
 * See also: PROTOCOL.md, sections 2 to 4; client/watchdog.js.
 */

// --- from the server: made by scripts/docs from unstuck.wire

/** The complete public state of a job, numbered by its `seq`. */
export interface Job {
  id: string;
  /** Rises with every visible change of the job or its items; never falls. */
  seq: number;
  /** The registered kind of work. */
  kind: string;
  /** A label for people. */
  name: string;
  /** What one item is called, such as row; not sent for old jobs. */
  unit?: string;
  /** What several items are called. */
  units?: string;
  state: "queued" | "running" | "completed" | "completed_with_errors" | "failed" | "cancelled" | (string & {});
  /** True in a final state only, and never false again. */
  done: boolean;
  /** The state stays `running` until the work has actually stopped. */
  cancel_requested: boolean;
  cancel_requested_at: string | null;
  /** Null when done. */
  health: "ok" | "waiting_long" | "stalled" | "unresponsive" | (string & {}) | null;
  attempt: number;
  max_attempts: number;
  /** Higher priorities go first. */
  priority: number;
  /** The work runs elsewhere and is reported over HTTP. */
  external: boolean;
  /** External work fails after this many seconds without a report. Sent only if submitted. */
  lost_after_s?: number;
  progress: Progress;
  /** The error of the job as a whole. */
  error: JobError | null;
  /** The first failed items. */
  item_errors: ItemError[];
  /** The id of the job that this one retries. */
  retry_of: string | null;
  created_at: string;
  started_at: string | null;
  /** When the work last made progress. */
  progress_at: string | null;
  /** When the work last gave a sign of life. */
  heartbeat_at: string | null;
  finished_at: string | null;
  /** The job fails if it is not done by then. */
  deadline_at: string | null;
  /** The job and its files are removed at this time or later; null: they are kept. */
  expires_at: string | null;
  /** When this object was created. */
  server_time: string;
  /** Milliseconds to wait before the next poll; null when done. */
  poll_after_ms: number | null;
  links: Links;
}

/** The progress of a job: its numbers and its words. */
export interface Progress {
  total: number | null;
  /** Succeeded, failed and skipped together. */
  processed: number;
  succeeded: number;
  failed: number;
  skipped: number;
  /** Never falls within an attempt; 100 only when the job is done. */
  percent: number | null;
  /** Items per second: the current rate, or the average once the job is done. */
  rate_per_second: number | null;
  /** Estimated seconds until the end. */
  eta_seconds: number | null;
  stage: string | null;
  /** The newest words of any running item, or those reported about external work. */
  message: string | null;
  /** Names of the first running items. */
  current: string[];
}

/** The reason why a job or an item failed. */
export interface JobError {
  /** A stable word, such as worker_lost. */
  code: string;
  /** For a person. */
  message: string;
  /** Another attempt may succeed. */
  transient: boolean;
}

/** A failed item, as its job names it. */
export interface ItemError {
  index: number;
  name: string;
  code: string;
  message: string | null;
}

/** Paths of a job's resources. */
export interface Links {
  self: string;
  events: string;
  items: string;
  timeline: string;
  cancel: string;
  /** Null until the job is done. */
  retry: string | null;
  /** Null until the job is done. */
  results: string | null;
}

/** The part of an unfinished job that a progress bar needs, under the names of the job object. */
export interface JobProgress {
  id: string;
  seq: number;
  state: "queued" | "running" | "completed" | "completed_with_errors" | "failed" | "cancelled" | (string & {});
  done: boolean;
  cancel_requested: boolean;
  health: "ok" | "waiting_long" | "stalled" | "unresponsive" | (string & {}) | null;
  progress: BarProgress;
  poll_after_ms: number | null;
}

/** The numbers of a job's progress. Counts are items; null means not known. */
export interface BarProgress {
  total: number | null;
  /** Succeeded, failed and skipped together. */
  processed: number;
  succeeded: number;
  failed: number;
  skipped: number;
  /** Never falls within an attempt; 100 only when the job is done. */
  percent: number | null;
  /** Items per second: the current rate, or the average once the job is done. */
  rate_per_second: number | null;
  /** Estimated seconds until the end. */
  eta_seconds: number | null;
}

/** One file, or one named part, of a job. */
export interface Item {
  /** From 0. */
  index: number;
  name: string;
  state: "pending" | "running" | "succeeded" | "failed" | "skipped" | "cancelled" | (string & {});
  /** The job's seq at the item's last change. */
  seq: number;
  /** Size of the input file (bytes). */
  size: number | null;
  /** 0 to 1. */
  progress: number | null;
  message: string | null;
  error: JobError | null;
  /** A small JSON value; null if there is none. */
  result: unknown;
  attempt: number;
  /** The name of the worker that took the item last. */
  worker: string | null;
  /** When the worker's lease on the item ends. */
  lease_until: string | null;
  started_at: string | null;
  finished_at: string | null;
  /** Sent only if there is a file to download. */
  links?: ItemLinks;
}

/** Paths of an item's resources. */
export interface ItemLinks {
  /** The result file. */
  result: string;
}

/** A page of jobs: newest first, or by end time if they were requested that way. */
export interface Jobs {
  jobs: Job[];
  /** The cursor of the next page. */
  next: string | null;
}

/** A page of a job's items. */
export interface Items {
  items: Item[];
  /** The cursor of the next page. */
  next: string | null;
}

/** The history of a job, oldest first. */
export interface Timeline {
  entries: Entry[];
  /** There are older entries. */
  more: boolean;
}

/** One line of a timeline. */
export interface Entry {
  at: string;
  /** A stable word; more may be added. */
  what: string;
  text: string | null;
  item: EntryItem | null;
  attempt: number | null;
  worker: string | null;
}

/** The item that an entry is about. */
export interface EntryItem {
  index: number;
  name: string | null;
}

/** The kinds of work that can be submitted, and the limits. */
export interface Kinds {
  kinds: Kind[];
  limits: Limits;
}

/** A kind of work as clients see it. */
export interface Kind {
  name: string;
  title: string;
  description: string;
  /** For a file input, such as "image/*" or ".csv,text/csv"; empty: all. */
  accept: string;
  needs_file: boolean;
  /** Time limit for one item (seconds). */
  limit_s: number | null;
  options: Option[];
  /** What one item is called, such as row; empty: file or item. */
  unit: string;
  /** What several items are called. */
  units: string;
  /** Why it cannot be used on this server, and what to do about it. */
  unavailable: string | null;
}

/** One option of a kind. */
export interface Option {
  name: string;
  type: "boolean" | "choice" | "integer" | "number" | "text" | (string & {});
  required: boolean;
  /** Meaningful only if the option is not required. */
  default: unknown;
  nullable: boolean;
  choices: (string | number)[];
  minimum: number | null;
  maximum: number | null;
  description: string;
}

/** The limits of a submission. */
export interface Limits {
  max_files: number;
  max_file_bytes: number;
  max_job_bytes: number;
  /** Characters. */
  max_name_length: number;
  /** The most failed items that a job object names. */
  item_errors_shown: number;
}

/** An error: RFC 9457. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  /** For a person: what is wrong and what to do. */
  detail: string;
  /** A stable word. */
  code: string;
  /** For reports: how many were applied. */
  accepted?: number;
  /** For a stream of reports: the line that was refused. */
  line?: number;
}

/** A sign that the process answers. */
export interface Alive {
  status: string;
}

/** The server's readiness to do its work. */
export interface Ready {
  /** ok, or unavailable. */
  status: string;
  /** The reasons if it is not ready, in sentences. */
  troubles: string[];
}

/** The server's health in numbers. */
export interface ServerHealth {
  /** ok, or unavailable. */
  status: string;
  version: string;
  troubles: string[];
  workers: WorkerHealth;
  queue: QueueHealth;
  jobs: StoredJobs;
  webhooks: Record<string, number>;
  streams: StreamHealth;
  /** Polls by the reason that clients gave. */
  polls: Record<string, number>;
}

/** Worker processes. `deaths` and `leases_lapsed` count from the server's start. */
export interface WorkerHealth {
  alive: number;
  deaths: number;
  /** Items taken from runners that stopped responding. */
  leases_lapsed: number;
  /** Programs on other machines that asked for work or reported it lately. */
  elsewhere: number;
}

/** Waiting and running items. */
export interface QueueHealth {
  waiting_items: number;
  running_items: number;
  oldest_wait_seconds: number | null;
}

/** The number of stored jobs, by state and by health. */
export interface StoredJobs {
  by_state: Record<string, number>;
  by_health: Record<string, number>;
  /** Damaged rows that cannot be read in full, since the start; the log names them. */
  unreadable: number;
}

/** Streams. All but the first two fields count from the server's start. */
export interface StreamHealth {
  open: number;
  jobs_watched: number;
  opened: number;
  refused: number;
  broadcasts: number;
  broadcast_retries: number;
  broadcast_failures: number;
  /** Viewers that a heartbeat found to be behind. */
  rescues: number;
}

/** Items that changed since the viewer's last `items` event; sent before the `job` event of that change. */
export interface ItemsEvent {
  job_id: string;
  seq: number;
  items: Item[];
  /** More items changed: fetch them with after_seq. */
  more: boolean;
}

/** A sign that the stream is alive. */
export interface HeartbeatEvent {
  server_time: string;
  /** The seq of every job on the stream, by id. */
  jobs: Record<string, number>;
  /** The next heartbeat follows within this many seconds. */
  next_s: number;
}

/** A notice that the server closes the stream on purpose. */
export interface LeavingEvent {
  reason: string;
  /** Reconnect after this many milliseconds. */
  retry_ms: number;
}

/** A notice that a job does not exist, or was removed. */
export interface GoneEvent {
  job_id: string;
  code: string;
}

/** The body of a webhook, sent when a job has finished. */
export interface WebhookMessage {
  /** job. and the final state, such as job.completed. */
  type: string;
  /** When the job finished. */
  timestamp: string;
  data: Job;
}

/** The settings of this server that a worker needs. */
export interface Work {
  version: string;
  /** A lease that is not renewed for this long lapses (seconds). */
  lease_s: number;
  /** The longest wait of a claim (seconds). */
  longest_wait_s: number;
  /** Time limit for an item if neither its job nor its kind has one (seconds). */
  item_limit_s: number | null;
  /** Pause before a second attempt; then doubled (seconds). */
  retry_pause_s: number;
  /** Time for an item to stop by itself (seconds). */
  cancel_grace_s: number;
}

/** The claimed items; none if there was no work within the wait. */
export interface WorkItems {
  items: WorkItem[];
}

/** A claimed item. */
export interface WorkItem {
  job_id: string;
  kind: string;
  options: Record<string, unknown>;
  index: number;
  name: string;
  size: number | null;
  /** The number of the lease; every command names it. */
  lease: number;
  /** The lease lapses after this many seconds without a renewal. */
  lease_s: number;
  attempt: number;
  /** The job's time limit for one item (seconds). */
  limit_s: number | null;
  /** Failures that the job still allows; null: any number. */
  errors_left: number | null;
  /** The path of the item's file; null if it has none. */
  input: string | null;
  /** The path to which the result file is PUT. */
  output: string;
}

/** The outcome of each command, in their order. */
export interface WorkOutcomes {
  outcomes: WorkOutcome[];
}

/** The outcome of one command. */
export interface WorkOutcome {
  ok: boolean;
  /** The job is being stopped: stop its items. */
  stopping: boolean;
  /** Why it was refused: a stable word, such as lease_lost. */
  code: string | null;
  /** The same for a person. */
  detail: string | null;
}

/** A job to submit. */
export interface Submission {
  kind: string;
  name?: string | null;
  options?: Record<string, unknown>;
  priority?: number;
  max_attempts?: number | null;
  max_errors?: number | null;
  deadline_seconds?: number | null;
  item_limit_seconds?: number | null;
  webhook_url?: string | null;
  external?: boolean;
  /** External work only: it fails after this many seconds without a report. */
  lost_after_s?: number | null;
  items?: string[] | null;
  total?: number | null;
  unit?: string | null;
  units?: string | null;
}

/** A report about external work. */
export interface Report {
  items?: ReportedItem[];
  processed?: number | null;
  failed?: number | null;
  skipped?: number | null;
  total?: number | null;
  stage?: string | null;
  message?: string | null;
  state?: "canceled" | "cancelled" | "completed" | "completed_with_errors" | "failed" | null;
  error?: string | Error | null;
}

/** One item of a report. */
export interface ReportedItem {
  index?: number | null;
  name?: string | null;
  state?: "canceled" | "cancelled" | "failed" | "running" | "skipped" | "succeeded";
  progress?: number | null;
  message?: string | null;
  error?: string | Error | null;
  result?: unknown;
}

/** The reason why something failed. */
export interface Error {
  message: string;
  code?: string;
  transient?: boolean;
}

/** The items to run again: those that failed or were cancelled, or all. */
export interface RetryRequest {
  only?: "all" | "failed";
}

/** The reason for ending a job as failed. */
export interface FailRequest {
  why: string;
}

/** A claim of items to work on. */
export interface WorkClaim {
  kinds: string[];
  limit?: number;
  wait_s?: number;
  worker?: string | null;
  /** By job with short items: claim at least so many of it. */
  short?: Record<string, number>;
}

/** Commands, applied in order. */
export interface WorkReport {
  commands: (WorkProgress | WorkFinish | WorkRenew | WorkRelease)[];
  worker?: string | null;
}

/** The item runs, for `running_s` seconds so far. */
export interface WorkProgress {
  command: "progress";
  running_s?: number;
  fraction?: number | null;
  message?: string | null;
  job_id: string;
  index: number;
  lease: number;
}

/** The item ended, `running_s` seconds after its start. */
export interface WorkFinish {
  command: "finish";
  state: "cancelled" | "failed" | "skipped" | "succeeded";
  running_s?: number;
  error?: WorkError | null;
  message?: string | null;
  result?: unknown;
  result_file?: string | null;
  /** Pause before another attempt (seconds). */
  pause_s?: number;
  job_id: string;
  index: number;
  lease: number;
}

/** The reason why an item failed. After a transient one there may be another attempt. */
export interface WorkError {
  message: string;
  code?: string;
  transient?: boolean;
}

/** The worker is alive: renew the lease. */
export interface WorkRenew {
  command: "renew";
  job_id: string;
  index: number;
  lease: number;
}

/** The item goes back to the queue; the attempt does not count. */
export interface WorkRelease {
  command: "release";
  job_id: string;
  index: number;
  lease: number;
}

// --- the watching policy

/** What the policy reads of a job. */
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
  /** The next heartbeat is due within this time. */
  heartbeat_ms: number;
  /** From then on a heartbeat counts as missed; null before the first event. */
  late_at: number | null;
  /** From then on a second one does. */
  suspect_at: number | null;
}

/** Everything that the policy remembers. Times are milliseconds of the caller's clock. */
export interface WatchState {
  phase: Phase;
  link: Link;
  /** The highest seq held; -1 before the first. */
  seq: number;
  done: boolean;
  started_at: number;
  /** The time at which the job's state was last confirmed, by a stream or a poll. */
  confirmed_at: number | null;
  give_up_at: number;
  wake_at: number | null;
  /** The stream in use, and the spare that replaces it with its first event. */
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
  /** The reason for which another poll was requested while one is in flight. */
  poll_wanted: PollReason | null;
  poll_failures: number;
  poll_after_ms: number;
  /** True if the last poll was answered and no stream has sent an event since. */
  polling: boolean;
  /** The failure of the last poll; `status` is null if there was no answer. */
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
  /** The answer to another request, such as cancel, holds the job. */
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
