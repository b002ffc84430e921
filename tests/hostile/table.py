"""How the item of each hostile kind should end: its state, and the code of its error."""

from __future__ import annotations

from tests.hostile.kinds import WAYS

DIED = ("failed", "worker_lost")
RAISED = ("failed", "exception")
LATE = ("failed", "time_limit_exceeded")
BAD_RESULT = ("failed", "bad_result")
BAD_FILE = ("failed", "bad_result_file")
NOT_KEPT = ("failed", "result_not_kept")
DONE = ("succeeded", None)
#: The error is what the kind has forged.
FORGED = "forged"

End = tuple[str, str | None]

ENDS: dict[End, tuple[str, ...]] = {
    DONE: (
        "returns_a_dict_that_raises",
        "reports_odd_things",
        "returns_a_million_lists",
        "returns_text",
        "returns_a_number",
        "returns_nul_and_escapes",
        "returns_a_long_name_with_line_breaks",
        "returns_a_sparse_terabyte",
        "makes_its_folder_unreadable",
        "makes_its_pipes_nonblocking",
        "forges_ends_of_others",
        "leaves_a_thread_that_raises",
        "leaves_a_thread_that_reports",
        "leaves_a_thread_that_waits",
        "leaves_a_process",
        "returns_twice",
        "starts_100_processes",
        "changes_the_folder_and_removes_it",
        "sets_an_umask",
        "forbids_writing",
        "prints_ten_megabytes",
        "empties_the_environment",
    ),
    BAD_RESULT: (
        "returns_nan",
        "returns_an_object",
        "returns_a_surrogate",
        "returns_a_surrogate_as_key",
        "returns_tuples_as_keys",
        "returns_a_cycle",
        "returns_101_levels",
        "returns_980_levels",
        "returns_9_990_levels",
        "returns_a_huge_number",
        "fails_with_an_object_as_code",
    ),
    ("failed", "result_too_large"): ("returns_2_mb",),
    BAD_FILE: (
        "returns_a_file_outside",
        "returns_a_path_upwards",
        "returns_a_folder",
        "returns_a_link",
        "returns_a_fifo",
        "returns_a_socket",
        "returns_a_missing_file",
        "returns_a_name_that_is_no_text",
        "removes_its_output_folder",
        "replaces_its_output_folder_by_a_file",
    ),
    NOT_KEPT: ("forges_a_file_with_nul", "forges_a_file_outside"),
    RAISED: (
        "starts_threads_without_end",
        "traces_and_breaks_every_call",
        "raises_without_words",
        "skips_without_words",
        "raises_ten_megabytes",
        "raises_surrogates",
        "raises_system_exit",
        "raises_keyboard_interrupt",
        "raises_generator_exit",
        "raises_a_cancellation",
        "raises_cancelled_unasked",
        "raises_a_cycle_of_causes",
        "raises_a_deep_group",
        "recurses",
        "blocks_all_signals",
        "sets_an_alarm",
        "opens_descriptors_without_end",
        "leaves_a_fork",
        "lowers_the_recursion_limit",
        "forbids_files",
        "replaces_the_streams",
    ),
    ("failed", "transient"): ("makes_a_thousand_nested_folders",),
    DIED: (
        "raises_memory_error",
        "fails_with_a_code_of_a_megabyte",
        "exits_with_0",
        "exits_with_a_code_of_the_protocol",
        "aborts",
        "crashes",
        "kills_itself",
        "kills_its_group",
        "dies_of_a_real_time_signal",
        "becomes_another_program",
        "closes_all_descriptors",
        "closes_all_descriptors_and_waits",
        "points_all_descriptors_elsewhere",
        "writes_garbage",
        "writes_deep_json",
        "writes_a_line_without_end",
        "forges_a_hello",
        "forges_a_surrogate",
        "takes_all_memory",
    ),
    ("failed", FORGED): ("forges_an_endless_code",),
    LATE: (
        "stops_itself",
        "writes_empty_lines_without_end",
        "writes_messages_without_end",
        "reports_without_end",
        "sleeps_beyond_its_limit",
        "computes_beyond_its_limit",
        "holds_the_interpreter",
        "ignores_every_stop",
    ),
    ("succeeded", FORGED): ("forges_a_deep_result",),
}

END_OF: dict[str, End] = {way: end for end, ways in ENDS.items() for way in ways}

assert set(END_OF) == set(WAYS), set(END_OF) ^ set(WAYS)
