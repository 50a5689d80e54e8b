"""Words and phrases of the demo model's dialogues that belong to no operation.

Rules of this file:
- `<word>`, `<int>` and `<name>` are drawn freshly; a result is quoted whole.
- Refusals and small talk never call a tool.
"""

from __future__ import annotations

from tools.demo_kinds import split

ERRORS = (
    "Error: {path} not found",
    "Error: <text>",
    "Failed: <word> <word>",
    "Error: no access",
    "Error: [Errno 2] No such file or directory: '{path}'",
    "Error: no such file: {path}",
)
FAILED = ("That did not work: {result}", "It failed: {result}")
REFUSALS = (
    "I can't do that: none of my tools fits.",
    "Sorry, none of my tools can do that.",
)
UNKNOWN_WISHES = split(
    "Book a flight to <word>.|Paint a picture of <word>.|Sing a song about <word>."
    "|Order <int> pizzas.|Buy <int> shares of <word>.|Who won the match in <word>?"
    "|Write a poem about <word>.|Call my friend <word>.|Drive me to <word>."
    "|How tall is <word>?|What is the capital of <word>?|Play chess with me.|Feed the <word>."
)
CHAT = (
    (
        split("Hello|Hi|Hello!|Hi!|Hey|Hey there|Good morning|Good evening!"),
        ("Hello! What can I do for you?",),
    ),
    (
        split("Thanks|Thank you|Thanks!|Thank you!|Great, thanks|Good work|Perfect, thank you."),
        ("You are welcome.",),
    ),
    (split("Bye|Goodbye|See you|Bye!|That is all|Good night"), ("Goodbye!",)),
    (
        split("Who are you?|What are you?|What is your name?|Are you a robot?"),
        ("I am a tiny demo model that calls tools.",),
    ),
    (
        split("How are you?|How do you do?|How is it going?"),
        ("I am fine. What can I do for you?",),
    ),
    (split("My name is <name>|I am <name>|My name is <name>."), ("Hello <name>!",)),
)
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a coding agent.",
    "You are an agent. Use the tools.",
    "Be brief.",
    "You are a helpful assistant with tools.",
)
ENDINGS = ("", "", "", ".", ".", ".", " please.", ", please", "!", " now.")
# Words that every text has, so these are not held out.
COMMON = """
the a of is my from to and with in for on you it are this that we not by at all be as buy get
some file text says was your our has have do can now then here there will no yes one two or an
""".split()  # noqa: SIM905
QUESTIONS = ("What", "How", "Which", "Who", "Where", "Is ", "Can ", "Could ")
WORDS = """
alpha apple arrow autumn banana basket beacon berry bird blue board boat book bottle branch
bread bridge bright brown brush bucket build butter button cabin camera candle canvas castle
cat cedar chair cheese cherry circle city clock cloud coast coffee color config copper coral
corner cotton crane cream crown crystal cup dance data dawn delta demo desert desk diary dog
door draft dragon dream eagle earth east echo edge engine error event falcon farm feather
field fire fish flag flame flower fog forest fox frame friend frost fruit garden gate ghost
giant glass globe gold grape grass green grey guitar hammer happy harbor hat hello hill honey
horse hotel house ice index ink input iron island jacket jade jazz journal jungle key king
kite ladder lake lamp laser leaf lemon letter light lime line lion log loop lunar magic main
map maple marble market meadow memo metal milk mint mirror model moon morning mountain music
needle nest night north note ocean olive onion orange orbit otter output owl page paint palm
panda paper parade park pear pencil pepper piano picture pilot pine planet plum pocket poem
pond poppy port pump purple queen quiet rabbit radio rain raven recipe red report river road
robin rocket roof room rose ruby salt sand school sea seed server shadow ship shoe silver sky
snow soap soft song south spark spice spider spoon spring square star station steam stone
storm story street sugar summer sun table tag task tea temple test ticket tiger time todo
token tower town train travel tree tulip tunnel turtle umbrella update user valley velvet
version village violet violin wagon walnut water wave west whale wheat wheel white wild
willow wind window winter wolf wood wool world yellow zebra zero world users readme notes
setup utils helper index build docs tests app lib bin src first second third old new big small
""".split()  # noqa: SIM905
