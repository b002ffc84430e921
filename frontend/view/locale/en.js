/*
 * Every text of <job-progress> and of the batch page, in English.
 * It must not know when a text is shown or how its values are formatted.
 * See also: ../job-view.js, which chooses the texts; ../format.js, which fills in {name} and picks a plural by
 * {count}.
 *
 * {unit} is what an item of the job is called, in the form that fits {count}, and {units} is its plural: see withUnit
 * in ../format.js. unit_… has the forms of a unit; a unit without an entry is shown as the server names it.
 *
 * A translation is a copy of this table with its own texts, its own `locale`, and the plural forms that
 * Intl.PluralRules names for that locale. English fills in whatever it leaves out.
 */

/** @import { Words } from "../../wire" */

/** @type {Words} */
export const english = {
  locale: "en-GB",

  // states, as a badge
  queued: "Waiting",
  running: "Running",
  cancelling: "Cancelling…",
  completed: "Done",
  completed_with_errors: "Done with errors",
  failed: "Failed",
  cancelled: "Cancelled",
  loading: "Loading…",
  unknown: "Unknown",

  // what the items of a job are called
  unit_file: { one: "file", other: "files" },
  unit_item: { one: "item", other: "items" },

  // numbers
  untitled: "{kind}",
  title_loading: "Job",
  title_not_found: "Job not found",
  files_of: "{processed} of {total} {unit}",
  files_so_far: "{processed} {unit} so far",
  files_waiting: "{total} {unit}",
  rate_per_second: "{rate} {unit}/s",
  rate_per_minute: "{rate} {unit}/min",
  eta: "about {duration} left",
  took: "It took {duration}.",
  seconds: "{n} s",
  minutes: "{n} min",
  minutes_seconds: "{n} min {m} s",
  hours: "{n} h",
  hours_minutes: "{n} h {m} min",
  days: { one: "{n} day", other: "{n} days" },
  succeeded: "Succeeded",
  failed_count: "Failed",
  skipped: "Skipped",
  remaining: "To do",
  not_done: "Not done",
  attempt: "Attempt {attempt} of {max}",
  now_working_on: "Now",
  and_more: { one: "and {count} more", other: "and {count} more" },
  progress_label: "Progress of {name}",
  region: "{title}, job {id}",
  region_again: "{title}, job {id} ({place})",

  // the outcome
  end_completed: { one: "The {unit} is done.", other: "All {total} {unit} are done." },
  end_completed_empty: "Done. There was nothing to do.",
  end_completed_skipped: {
    one: "All {total} {units} are done, 1 of them skipped.",
    other: "All {total} {units} are done, {count} of them skipped.",
  },
  end_errors: {
    one: "{succeeded} of {total} {unit} is done; {failed} failed.",
    other: "{succeeded} of {total} {unit} are done; {failed} failed.",
  },
  end_failed: "Failed: {message}",
  end_failed_plain: "Failed. The server gave no reason.",
  end_cancelled: "Cancelled after {processed} of {total} {unit}.",
  end_cancelled_open: "Cancelled after {processed} {unit}.",
  end_unknown: "Ended in the state “{state}”.",

  // how long a finished job is kept
  kept_until: "Kept until {date}, {time}.",
  removed_in_hours: {
    one: "Will be removed in {count} hour, at {time}.",
    other: "Will be removed in {count} hours, at {time}.",
  },
  removed_in_minutes: {
    one: "Will be removed in {count} minute, at {time}.",
    other: "Will be removed in {count} minutes, at {time}.",
  },
  removed_soon: "Expired; it will be removed soon.",
  removed: "This job and its files have been removed from the server.",

  // health of the work
  waiting_long: "Waiting for {duration}: no worker has picked it up yet.",
  waiting_long_again: "Waiting for {duration}: no worker has picked it up again yet.",
  stalled: "No progress for {duration}, although the worker is still running.",
  unresponsive: "The worker has not responded for {duration}.",
  waiting_long_advice: "Nothing is lost; it will run as soon as a worker is free.",
  stalled_advice:
    "Some work takes a while without reporting. If this doesn’t normally, cancel it or ask the administrator of this server.",
  unresponsive_advice: "You don’t need to do anything: if it stays silent, another worker takes over.",
  waiting_long_external: "Waiting for {duration}: nothing has been reported yet.",
  stalled_external: "No progress for {duration}, although reports arrive.",
  unresponsive_external: "Nothing has been reported for {duration}.",
  waiting_long_external_advice: "The job starts with the first report.",
  stalled_external_advice:
    "If this work doesn’t normally take so long, cancel it or check the program that reports it.",
  unresponsive_external_advice: "Check the program that reports this job, or cancel it: nothing else takes over.",
  badge_waiting_long: "Long wait",
  badge_stalled: "No progress",
  badge_unresponsive: "Not responding",
  cancel_asked: "Cancelling… Finished {units} are kept.",
  cancel_asked_since: "Cancelling for {duration}. Finished {units} are kept.",

  // the connection to the server
  link_connecting: "Connecting…",
  link_reconnecting: "Reconnecting…",
  link_live: "Live",
  link_catching_up: "Catching up…",
  link_polling: "No live updates; checking every few seconds instead.",
  link_offline: "No response from the server; trying again. Finished work is kept.",
  link_browser_offline: "This device seems to be offline; trying again. Work continues on the server.",
  link_trouble: "The server responded with an error ({status}); trying again. Finished work is kept.",
  link_garbage: "The response did not come from the progress server; trying again.",
  link_signed_out: "You are no longer signed in. Sign in again, and updates resume automatically.",
  link_not_found: "There is no job {id}. It may have been removed, or the address is wrong.",
  link_gave_up:
    "No updates for {duration}, so this page has stopped checking. The jobs themselves are not affected.",
  link_gave_up_job:
    "No updates on job {id} for {duration}, so this page has stopped checking. The job itself is not affected.",
  news_age: "Last update {duration} ago.",
  found_by_polling: "updated by a status check",
  end_found_by_polling: "Found by a status check; no live update had reported it.",

  // the badge while there is no contact, in place of the job's state
  lost_connecting: "Reconnecting",
  lost_offline: "No contact",
  lost_browser_offline: "Offline",
  lost_trouble: "Server error",
  lost_garbage: "No contact",
  lost_signed_out: "Signed out",
  lost_not_found: "Not found",
  lost_gave_up: "No contact",
  lost_since: "{text} · {duration}",

  // buttons
  cancel: "Cancel",
  check: "Check status",
  checking: "Checking…",
  keep_watching: "Keep watching",
  close: "Close",
  sign_in: "Sign in",
  create_new: "Create new job",
  notify: "Notify me",
  notify_on: "You will be notified",
  retry: { one: "Run the unfinished {unit}", other: "Run {count} unfinished {unit}" },
  retry_failed: { one: "Retry the failed {unit}", other: "Retry {count} failed {unit}" },
  retrying: "Starting…",
  download_all: "Download (ZIP)",
  download: "Download",
  show_failed: { one: "Show the failed {unit}", other: "Show all {count} failed {unit}" },
  next_page: "Next",
  first_page: "Back to the start",
  page_of: "{from}–{to} of {count}",

  // the timeline of a job
  details: "Details",
  ago: "{duration} ago",
  tl_all: { one: "{count} entry", other: "{count} entries" },
  tl_newest: { one: "Newest entry", other: "Newest {count} entries" },
  tl_earlier: "Show earlier entries",
  tl_attempt: "attempt {attempt}",
  tl_submitted: "Submitted",
  tl_submitted_again: "Submitted as a {text}",
  tl_state_running: "Started",
  tl_state_completed: "Done",
  tl_state_completed_with_errors: "Done with errors",
  tl_state_failed: "Failed",
  tl_state_cancelled: "Cancelled",
  tl_state: "New state: {text}",
  tl_health_ok: "Making progress again",
  tl_health_waiting_long: "Long wait for a worker",
  tl_health_stalled: "No progress for a long time",
  tl_health_unresponsive: "Worker not responding",
  tl_health: "New health: {text}",
  tl_cancel_requested: "Cancel requested",
  tl_stopped: "Stopped: {text}",
  tl_rescued: "Running {units} taken from their workers: {text}",
  tl_item_started: "started",
  tl_item_ended_succeeded: "done",
  tl_item_ended_skipped: "skipped",
  tl_item_ended_cancelled: "cancelled",
  tl_item_ended: "ended: {text}",
  tl_item_failed: "failed: {text}",
  tl_attempt_failed: "{text}",
  tl_given_back: "returned to the queue",
  tl_webhook: "Webhook {text}",
  tl_other: "{what} {text}",

  // lists of items
  problems: "{count} {unit} failed",
  results: "Results",
  no_items: "Nothing to show.",
  no_reason: "no reason given",
  items_loading: "Loading…",
  items_failed: "The list could not be loaded: {reason}",
  result_entries: { one: "{count} entry", other: "{count} entries" },

  // notifications
  notice_on: "You will be notified when it is done, as long as this page stays open.",
  notice_refused: "This browser does not allow notifications from this page.",

  // the result of a check, or of a click
  found_news: "Status checked: updated.",
  found_same: "Status checked: nothing new.",
  found_failed: "Status checked: no response from the server. Showing the last known state.",
  found_trouble: "Status checked: the server responded with an error ({status}). Showing the last known state.",
  cancel_failed: "Could not cancel: {reason}",
  retry_failed_to: "Could not retry: {reason}",
  retry_started: "This is a new job for the unfinished {units}. The original job is unchanged.",
  no_contact: "the server did not respond; please try again",
  bad_status: "the server responded with an error ({status})",

  // the batch page
  page_about: "Work on many files, with progress that never gets stuck.",
  page_skip: "Skip to the jobs",
  page_title: "{state} – {name}",
  page_title_lost: "⚠ {title}",

  // the batch page: the form
  form_title: "New job",
  form_kinds: "What should be done?",
  form_drop: "Drop files or a folder anywhere on this page",
  drop_now: "Drop to add the files",
  drop_next: "Drop to add the files to the next job",
  form_files: "Choose files",
  form_folder: "Choose a folder",
  form_total: "Number of {units}",
  form_options: "Options",
  form_name: "Name (optional)",
  chosen: { one: "{count} file, {size}", other: "{count} files, {size}" },
  chosen_more: { one: "and {count} more", other: "and {count} more" },
  reading_folder: "Reading the folder…",
  reading_files: { one: "Reading {count} file…", other: "Reading {count} files…" },
  remove_all: "Remove all",
  choose_again: "This page no longer has the files of that job. Please choose them again.",
  start_with: "Start with {count} {unit}",
  start: "Start",
  choose_first: "Choose at least one file.",
  too_many_files: "You chose {count} files; a job can have up to {max}. Please split them into several jobs.",
  file_too_large: "{name} is {size}; a file can have up to {max}.",
  job_too_large: "Together the files are {size}; a job can have up to {max}.",
  name_too_long: "{name}: the name has {count} characters; it can have up to {max}.",
  and_others: {
    one: "{count} more file has the same problem.",
    other: "{count} more files have the same problem.",
  },
  not_accepted: {
    one: "{count} file may not be {what}{types}. You can start anyway.",
    other: "{count} files may not be {what}{types}. You can start anyway.",
  },
  type_image: { one: "a picture", other: "pictures" },
  type_audio: { one: "a sound file", other: "sound files" },
  type_video: { one: "a video", other: "videos" },
  type_text: { one: "a text file", other: "text files" },
  type_other: "of the right type",
  type_names: " ({types})",
  system_files: {
    one: "{count} system file was left out: {names}.",
    other: "{count} system files were left out: {names}.",
  },
  folder_unreadable: "{name} could not be read and was left out: {reason}",
  range: "{minimum} to {maximum}.",
  at_least: "At least {minimum}.",
  at_most: "At most {maximum}.",
  not_set: "not set",
  uploading: { one: "Uploading {count} file", other: "Uploading {count} files" },
  uploading_title: "Uploading",
  upload_amount: "{sent} of {size}",
  upload_rate: "{rate}/s",
  upload_accepting: "Upload complete. Waiting for the server to accept the job…",
  upload_cancelled: "Upload cancelled; no job was started. Your files are still chosen.",
  upload_failed: "The job was not started: {reason}",
  upload_broken:
    "The upload was interrupted: the connection broke, or a file changed while it was being read. Your files are still chosen, so you can start again; if the server has the job already, it is not started twice.",
  kinds_failed: "The kinds of work could not be loaded: {reason}",
  try_again: "Try again",

  kind_unavailable: "Not available: {reason}.",
  choice_jpeg: "JPEG",
  choice_png: "PNG",
  choice_webp: "WebP",
  choice_tab: "Tab",
  "choice_,": "Comma ( , )",
  "choice_;": "Semicolon ( ; )",
  "choice_|": "Vertical bar ( | )",
  "choice_:": "Colon ( : )",
  "choice_.": "Point ( . )",
  "choice_ ": "Space",
  "choice_\t": "Tab",

  // the batch page: the list
  list_title: "Jobs",
  no_jobs: "No jobs yet. Jobs that you start appear here, for everyone who can open this page.",
  list_full: "Only the newest {count} jobs are listed.",
  list_trouble: "The list may be out of date. {text}",
  more_jobs: "Show more",
  more_failed: "More jobs could not be loaded: {reason}",
  failures: { one: "{count} failed", other: "{count} failed" },

  // the batch page: stuck jobs
  attention: "Needs attention",
  attention_more: { one: "{count} more job is stuck.", other: "{count} more jobs are stuck." },
  attention_lost: "{text}: this may have changed.",
  attention_again: "Making progress again.",
  attention_ended: "The job has ended.",
  known_life: "Last heartbeat {duration} ago",
  known_worker: "worker {worker}",
  known_items: { one: "working on {names}", other: "working on {names} and {more} more" },
  rescue: "Restart running {units}",
  rescue_what: {
    one: "The running {unit} is taken from its worker and started again. Finished {units} are kept.",
    other: "{count} running {unit} are taken from their workers and started again. Finished {units} are kept.",
  },
  rescue_last: {
    one: "{count} {unit} is on its last attempt and will fail instead.",
    other: "{count} {unit} are on their last attempt and will fail instead.",
  },
  rescue_do: "Restart now",
  rescued: "{name}: running {units} were restarted.",
  give_up: "Give up…",
  give_up_what: "{stops}, and the job ends as failed. Finished {units} are kept. This cannot be undone.",
  give_up_plain: "The job ends as failed. Finished {units} are kept. This cannot be undone.",
  give_up_running: { one: "{count} running {unit} is stopped", other: "{count} running {unit} are stopped" },
  give_up_waiting: { one: "{count} waiting {unit} is cancelled", other: "{count} waiting {unit} are cancelled" },
  give_up_why: "Reason (shown to everyone who opens the job)",
  give_up_do: "End the job as failed",
  gave_up_on: "{name}: ended as failed.",
  keep_waiting: "Keep waiting",
  operate_failed: "{name}: the request failed: {reason}",

  // for a screen reader
  say_percent: "{percent} done.",
  say_link_lost: "Connection lost; trying again.",
  say_link_back: "Connected again.",
};
