"""What can be asked for in the demo model's dialogues: operations, their wishes and answers.

Rules of this file:
- An operation is what a tool does, whatever its name; each has several names, wishes and answers.
- A wish never starts with a value; every final answer quotes the result whole.
- `<word>`, `<text>`, `<file>`, `<int>` in a result are drawn freshly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.demo_kinds import Operation, Param, split


def _path(names: str = "path|file|filename|file_path|name|target") -> Param:
    about = "The path of the file.|Path of the file|Which file.|The file.|File name"
    return Param("path", "path", split(names), split(about))


def _param(role: str, kind: str, names: str, about: str) -> Param:
    return Param(role, kind, split(names), split(about))


def _flag(role: str, names: str, about: str, phrases: str) -> Param:
    said = tuple(f" {part}" for part in split(phrases))
    off = ()
    return Param(role, "bool", split(names), split(about), False, said, off)


def _number(role: str, names: str, about: str, phrases: str) -> Param:
    said = tuple(f" {part}" for part in split(phrases))
    return Param(role, "int", split(names), split(about), False, said)


def _operation(key: str, name: str, *params: Param, **texts: Any) -> Operation:
    fields: dict[str, Any] = {k: split(v) if isinstance(v, str) else v for k, v in texts.items()}
    return Operation(key=key, canonical=name, params=params, **fields)


def _compute(formula: Callable[[int, int], int]) -> Callable[[dict[str, Any]], str]:
    return lambda values: str(formula(values["a"], values["b"]))


_A = _param("a", "int", "a|x|first|left|m", "The first number.|First value|One number")
_B = _param("b", "int", "b|y|second|right|n", "The second number.|Second value|Another number")
_FOLDER = _param(
    "path",
    "folder",
    "path|folder|dir|directory|where",
    "The path of the folder.|Which folder.|Folder",
)
_CONTENT = _param(
    "content", "text", "content|text|data|body|contents", "What to write.|The text.|New content"
)
_NUMBERS = "numbers|integers|values|ints|pair"
_FILES = "file|document|text_file|doc|path|contents"
_IS = "The result is {result}.|That makes {result}.|{result}"
_DID = "Done: {result}|{result}|That worked: {result}"

_ALL = (
    _operation(
        "list",
        "list_folder",
        _FOLDER,
        _flag(
            "hidden",
            "show_hidden|hidden|all|with_hidden",
            "Whether to show hidden files.|Include hidden files",
            "with hidden files|including hidden files|and show hidden files",
        ),
        verbs="list|ls|show|scan|browse|enumerate|get",
        nouns="folder|directory|dir|files|entries|tree",
        descriptions="List the files of a folder.|Lists a directory|Shows what is in a folder."
        "|Names of all files in a directory.|Return the entries of a folder.",
        wishes="List the files in {path}|What is in {path}|What files are in {path}"
        "|List the folder {path}|Show me the folder {path}|Which files does {path} have"
        "|Look into {path}|List {path}|Show the directory {path}|What does the folder {path} hold",
        answers="The folder {path} holds:\n{result}|These are the files in {path}:\n{result}"
        "|In {path} I found:\n{result}",
        results="<file>\n<file>|<file>\n<file>\n<file>|<file>|(empty)|<file>, <file>"
        "|<word>/\n<file>|<file>\n<word>/\n<file>",
    ),
    _operation(
        "read",
        "read_file",
        _path(),
        _number(
            "lines",
            "limit|lines|max_lines|count",
            "How many lines.|Lines to read",
            "but only {} lines|and stop after {} lines",
        ),
        verbs="read|open|cat|load|view|fetch|get|show",
        nouns=_FILES,
        descriptions="Read a file.|Returns the content of a file.|Read the text of a file"
        "|Gives back what a file contains.|Opens a file and returns its text.",
        wishes="Read {path}|Read the file {path}|What is in the file {path}|Show me {path}"
        "|Open {path}|What does {path} say|Show the content of {path}|Print {path}|Cat {path}"
        "|Tell me what {path} contains|Read {path} and tell me what it says",
        answers="{path} says:\n{result}|The file {path} contains:\n{result}"
        "|This is the content of {path}:\n{result}",
        results="<text>|<text>|<text>\n<text>|<text>\n<text>\n<text>|<word> <text>|<int>"
        "|<word>=<int>",
    ),
    _operation(
        "write",
        "write_file",
        _path(),
        _CONTENT,
        verbs="write|save|create|put|store|make",
        nouns=_FILES,
        descriptions="Write a file.|Writes text to a file.|Create or overwrite a file with text."
        "|Save content to a file|Stores a text in a file.",
        wishes="Write {content} to {path}|Write {content} into {path}|Save {content} as {path}"
        "|Create a file {path} with the content {content}|Put {content} into {path}"
        "|Create {path} with {content}|Make a file {path} that says {content}"
        "|Write a file {path} with the text {content}|Store {content} in {path}"
        "|Write to {path} the text {content}|Save the text {content} to {path}",
        answers=_DID,
        results="Wrote {path}.|ok|Saved <int> bytes to {path}|Wrote <int> characters to {path}."
        "|File {path} written|<int> bytes",
        kin=("append",),
    ),
    _operation(
        "replace",
        "replace_text",
        _path(),
        _param(
            "old",
            "text",
            "old|old_text|search|find|before|old_string",
            "The text to replace.|Old text",
        ),
        _param(
            "new", "text", "new|new_text|replacement|with|after|new_string", "The new text.|Put in"
        ),
        verbs="replace|edit|change|swap|substitute|sub",
        nouns="text|string|words|in_file|file|content",
        descriptions="Replace text in a file.|Replaces a string in a file.|Swaps old text for new."
        "|Change a text of a file into another.|Edit a file by replacing text.",
        wishes="Replace {old} with {new} in {path}|In {path}, replace {old} by {new}"
        "|Change {old} to {new} in {path}|In {path} change {old} to {new}"
        "|Swap {old} for {new} in {path}|Edit {path} so that {old} becomes {new}"
        "|Substitute {new} for {old} in {path}|In the file {path}, replace {old} with {new}",
        answers=_DID,
        results="Replaced <int> times in {path}.|ok|1 replacement|{path} changed|Edited {path}."
        "|Replaced 1 occurrence.",
    ),
    _operation(
        "add",
        "add_numbers",
        _A,
        _B,
        verbs="add|sum|plus|total|calc_sum",
        nouns=_NUMBERS,
        descriptions="Add two numbers.|Returns the sum of two integers.|Sum of two values"
        "|Adds a number to another.",
        wishes="Add {a} and {b}|What is {a} plus {b}|Add up {a} and {b}|Sum {a} and {b}"
        "|How much is {a} + {b}|What is {a} + {b}|Calculate {a} + {b}"
        "|What is the sum of {a} and {b}|Compute {a} plus {b}",
        answers="The sum is {result}.|{a} plus {b} is {result}.|" + _IS,
        compute=_compute(lambda a, b: a + b),
    ),
    _operation(
        "subtract",
        "subtract_numbers",
        _A,
        _B,
        verbs="subtract|minus|difference|diff",
        nouns=_NUMBERS,
        descriptions="Subtract two numbers.|Returns the difference of two integers.|A minus B.",
        wishes="What is {a} minus {b}|How much is {a} - {b}|Calculate {a} minus {b}"
        "|Take the difference of {a} and {b}",
        answers="The difference is {result}.|" + _IS,
        compute=_compute(lambda a, b: a - b),
    ),
    _operation(
        "multiply",
        "multiply_numbers",
        _A,
        _B,
        verbs="multiply|times|product|mul",
        nouns=_NUMBERS,
        descriptions="Multiply two numbers.|Returns the product of two integers.|A times B.",
        wishes="Multiply {a} by {b}|What is {a} times {b}|How much is {a} * {b}"
        "|What is the product of {a} and {b}|Calculate {a} times {b}",
        answers="The product is {result}.|" + _IS,
        compute=_compute(lambda a, b: a * b),
    ),
    _operation(
        "delete",
        "delete_file",
        _path(),
        verbs="delete|remove|rm|erase|unlink|drop",
        nouns=_FILES,
        descriptions="Delete a file.|Removes a file.|Erase a file from the disk.",
        wishes="Delete {path}|Remove the file {path}|Delete the file {path}|Get rid of {path}"
        "|Erase {path}|Remove {path}",
        answers=_DID,
        results="Deleted {path}.|ok|{path} is gone|Removed 1 file",
    ),
    _operation(
        "move",
        "move_file",
        _param("path", "path", "source|src|from|old_path|path", "The file to move.|Old path"),
        _param("target", "path", "target|dest|to|new_path|destination", "The new path.|Where to"),
        verbs="move|rename|mv|relocate",
        nouns=_FILES,
        descriptions="Move a file.|Renames a file.|Give a file a new path.",
        wishes="Move {path} to {target}|Rename {path} to {target}"
        "|Rename the file {path} to {target}|Give {path} the new name {target}",
        answers=_DID,
        results="Moved to {target}.|ok|{path} is now {target}|Renamed {path}",
    ),
    _operation(
        "copy",
        "copy_file",
        _param("path", "path", "source|src|from|original|path", "The file to copy.|Original"),
        _param("target", "path", "target|dest|to|copy|destination", "Path of the copy.|Where to"),
        verbs="copy|duplicate|cp|clone",
        nouns=_FILES,
        descriptions="Copy a file.|Duplicates a file.|Make a copy of a file.",
        wishes="Copy {path} to {target}|Make a copy of {path} called {target}"
        "|Duplicate {path} as {target}|Copy the file {path} to {target}",
        answers=_DID,
        results="Copied to {target}.|ok|{target} created|Copied <int> bytes",
    ),
    _operation(
        "append",
        "append_file",
        _path(),
        _CONTENT,
        verbs="append|extend|attach|add",
        nouns="to_file|line|text|to_end|file",
        descriptions="Append text to a file.|Adds a line at the end of a file.|Extend a file.",
        wishes="Append {content} to {path}|Add the line {content} to {path}"
        "|Add {content} at the end of {path}|Append the text {content} to the file {path}",
        answers=_DID,
        results="Appended to {path}.|ok|{path} has <int> lines now",
        kin=("write",),
    ),
    _operation(
        "search",
        "search_text",
        _param("query", "text", "query|pattern|needle|term|q", "What to look for.|Search term"),
        _param("path", "folder", "path|folder|where|dir|root", "Where to search.|The folder"),
        verbs="search|grep|find|seek|look_up",
        nouns="text|files|folder|code|in_files",
        descriptions="Search for a text in files.|Finds a string in a folder.|Grep through files.",
        wishes="Search for {query} in {path}|Find {query} in {path}|Grep for {query} in {path}"
        "|Look for {query} in {path}|Where in {path} is {query}",
        answers="I found this:\n{result}|Matches:\n{result}|The search gave:\n{result}",
        results="<file>:<int>|<file>:<int>: <text>|no matches|<int> matches in <file>"
        "|<file>\n<file>",
    ),
    _operation(
        "mkdir",
        "create_folder",
        _FOLDER,
        verbs="create|make|new|mk",
        nouns="folder|directory|dir",
        descriptions="Create a folder.|Makes a new directory.|New folder.",
        wishes="Create a folder {path}|Make a directory {path}|Create the directory {path}"
        "|Make a new folder called {path}",
        answers=_DID,
        results="Created {path}.|ok|{path} exists now",
        kin=("write",),
    ),
    _operation(
        "count",
        "count_lines",
        _path(),
        verbs="count|number|measure|tally",
        nouns="lines|rows|file_lines|length",
        descriptions="Count the lines of a file.|Returns how many lines a file has.",
        wishes="How many lines does {path} have|Count the lines of {path}|How long is {path}"
        "|Count the lines in {path}",
        answers="{path} has this many lines: {result}|The count is {result}.",
        results="<int>|<int> lines",
    ),
    _operation(
        "run",
        "run_command",
        _param(
            "command", "text", "command|cmd|line|script|shell", "The command to run.|Shell line"
        ),
        _number(
            "timeout", "timeout|seconds|max_time", "Limit in seconds.", "for at most {} seconds"
        ),
        verbs="run|execute|exec|shell",
        nouns="command|shell|bash|script|line",
        descriptions="Run a shell command.|Executes a command line.|Runs a program.",
        wishes="Run {command}|Execute {command}|Run the command {command}"
        "|Execute the command {command}",
        answers="The command printed:\n{result}|Output:\n{result}",
        results="<text>|<text>\n<text>|exit code <int>|done",
    ),
    _operation(
        "weather",
        "get_weather",
        _param("city", "name", "city|place|location|town|where", "The city.|Name of the town"),
        verbs="get|fetch|check|current|show",
        nouns="weather|forecast|temperature|climate",
        descriptions="Get the weather of a city.|Current weather at a place.|Weather report.",
        wishes="What is the weather in {city}|How is the weather in {city}|Weather in {city}"
        "|Is it cold in {city}|Tell me the weather in {city}",
        answers="The weather in {city}: {result}|In {city} it is: {result}",
        results="<int> degrees|<word>, <int> degrees|<word> and <word>",
    ),
    _operation(
        "message",
        "send_message",
        _param("to", "name", "to|recipient|user|person|whom", "Who gets it.|The recipient"),
        _param("content", "text", "text|message|body|content|msg", "What to say.|The message"),
        verbs="send|post|deliver|write|mail",
        nouns="message|note|mail|chat|sms",
        descriptions="Send a message to a person.|Delivers a text to someone.|Message a user.",
        wishes="Send {content} to {to}|Tell {to} {content}|Send {to} the message {content}"
        "|Message {to}: {content}|Send a message to {to} that says {content}",
        answers=_DID,
        results="Sent to {to}.|ok|Message <int> delivered",
    ),
    _operation(
        "timer",
        "set_timer",
        _param("minutes", "int", "minutes|duration|time|mins", "How many minutes.|Minutes"),
        verbs="set|start|create|new",
        nouns="timer|alarm|countdown|reminder",
        descriptions="Set a timer.|Starts a countdown of some minutes.|Start a timer.",
        wishes="Set a timer for {minutes} minutes|Start a timer of {minutes} minutes"
        "|Wake me in {minutes} minutes|Set an alarm in {minutes} minutes",
        answers=_DID,
        results="Timer set.|ok|Timer <int> started",
    ),
    _operation(
        "switch",
        "set_switch",
        _param("device", "word", "device|name|lamp|item|id", "Which device.|The device"),
        Param(
            "on",
            "bool",
            ("on", "state", "enabled", "active"),
            ("On or off.", "Whether it is on"),
            phrases=("on",),
            phrases_off=("off",),
        ),
        verbs="set|toggle|turn|control",
        nouns="switch|device|power|light",
        descriptions="Turn a device on or off.|Switches a device.|Sets the power of a device.",
        wishes="Turn {on} {device}|Switch {on} the {device}|Turn {on} the device {device}"
        "|Switch {on} {device}",
        answers=_DID,
        results="ok|{device} switched|state changed",
    ),
    _operation(
        "translate",
        "translate_text",
        _param("content", "text", "text|phrase|words|input|source", "The text.|What to translate"),
        _param(
            "language", "language", "language|lang|to|target", "The target language.|Into which"
        ),
        verbs="translate|convert|render",
        nouns="text|phrase|words|language",
        descriptions="Translate a text.|Translates words into another language.",
        wishes="Translate {content} to {language}|Say {content} in {language}"
        "|What is {content} in {language}|Translate {content} into {language}",
        answers="In {language}: {result}|The translation is: {result}",
        results="<text>|<word>",
    ),
    _operation(
        "time",
        "get_time",
        verbs="get|current|now|tell|show",
        nouns="time|clock|hour|date_time",
        descriptions="Get the current time.|Returns the time of day.|Tells what time it is.",
        wishes="What time is it|Tell me the time|What is the time|How late is it",
        answers="It is {result}.|The time is {result}.",
        results="12:<int>|<int>:<int>|<int> past <int>",
    ),
    _operation(
        "user",
        "get_user",
        _param("id", "int", "id|user_id|number|key", "The number of the user.|User id"),
        verbs="get|find|fetch|lookup|load",
        nouns="user|account|customer|person|member",
        descriptions="Get a user by number.|Looks up an account.|Find a customer by id.",
        wishes="Who is user {id}|Look up user {id}|Find the account {id}|Get customer {id}"
        "|Show me user {id}",
        answers="User {id}: {result}|I found: {result}",
        results="<word>|<word>, <int>|<word> <word>",
    ),
    _operation(
        "fetch",
        "fetch_url",
        _param("url", "url", "url|address|link|uri|page", "The address.|Which page"),
        verbs="fetch|get|download|load|visit",
        nouns="url|page|web|site|link",
        descriptions="Fetch a web page.|Downloads the text of a URL.|Get a page from the web.",
        wishes="Fetch {url}|Download {url}|Get the page {url}|What is on {url}|Visit {url}",
        answers="The page says:\n{result}|I got:\n{result}",
        results="<text>|<text>\n<text>|<word>",
    ),
    _operation(
        "commit",
        "git_commit",
        _param("message", "text", "message|msg|title|summary", "The message.|Commit message"),
        verbs="git|vcs|make|do",
        nouns="commit|save|snapshot|record",
        descriptions="Commit all changes.|Records the changes in git.|Make a git commit.",
        wishes="Commit with the message {message}|Commit all changes as {message}"
        "|Make a commit with message {message}|Commit my work: {message}",
        answers=_DID,
        results="commit <word>|[main <word>]|ok",
    ),
)

OPERATIONS = {operation.key: operation for operation in _ALL}
