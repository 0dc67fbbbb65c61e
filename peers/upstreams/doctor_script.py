"""What ELIZA says: the rules as data, in our own sentences, and the small engine that plays them. Pure.

A rule of SCRIPT begins at the margin with its keywords (or one of GROUPS) and its rank. Below stand its patterns, each
with its answers, apart by `|` or on lines of their own. In a pattern `*` is any number of words, `+` one or more, `a/b`
either and `@name` one of GROUPS; `*`, `+` and `@name` are numbered from 1, and `(1)` in an answer gives one back,
turned round (my to your).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

INTRODUCTION = "I am ELIZA, a small pattern-matching program and no language model."

SCRIPT = """\
computer computers machine machines robot chatbot software program algorithm : 50
  * => How do you get on with machines in daily life? | Is it me you have in mind, or machines as a whole?
    A machine can listen for a long time. What should it hear? | What would a machine have to do to win your trust?
ai llm gpt chatgpt model human person real alive eliza : 45
  * are you * => A program that looks for patterns and fills in sentences; no model is behind it. What did you expect?
    No person, and no language model: a list of rules. Does that change what you want to say?
  * you are * => All I have is a list of rules. What made you bring that up?
dream dreams dreamed dreamt nightmare nightmares : 30
  * i dreamed/dreamt + => Waking from having dreamed (2), what stayed with you?
    If a friend had dreamed (2), what would you tell them?
  * => What was the strongest moment of the dream? | What part of your days may have slipped into it?
    Who was in it, and what did they want from you?
name : 25
  * your name * => People call me ELIZA. And what would you like to talk about?
  * my name is + => Good to meet you, (2). What is on your mind?
remember recall : 24
  * i remember/recall + => What brought that back to you today? | What feeling comes along when you think of (2)?
  * you remember/recall + => I keep nothing but this conversation. What is it about (2) that should not be lost?
sorry apologise apologize apologies pardon : 23
  * => No harm done. What were you about to say?
    Nothing here calls for an apology. Who taught you to make one so soon?
everyone everybody nobody always never : 22
  * everyone/everybody * => All of them, without one exception? | Whose face do you see first when you say that?
  * nobody * => Not a single one? Who comes nearest? | Who do you wish would?
  * always * => When was the last time? | Has there been one day when it was otherwise?
  * never * => Not once? What came closest? | What would the first time be like?
@family : 21
  * my @family * => What was your (2) like when you were small?
    What would you say to your (2) if nothing could go wrong? | How are things between you and your (2) now?
    In what way are you like your (2)?
  * => How close is your family? | Who at home would understand you best?
because : 20
  * => Suppose that reason fell away: what would be left? | Is there a second reason behind the first?
    Who gave you that reason?
if : 19
  * if + => And if it turned out otherwise? | How often do you picture it: (2)? | What would you do first if (2)?
alike same similar resembles : 18
  * => Where does the likeness end? | What first made you compare them?
want need wish hope : 17
  * i want/need + => What would be different if you had what you want? | Since when do you want (2)?
    Who else knows that you want (2)? | What stands in the way?
  * i wish/hope + => What would have to happen for that to come true? | How long have you been waiting for that?
  * do you want/need * => I want for nothing. What do you want?
cannot can't : 16
  * i cannot/can't + => What happens when you try? | Who says that you can't (2)? | Was there a time when you could (2)?
don't won't : 15
  * i don't know * => If you had to guess, what would you say? | Which part of it is the least clear?
  * i don't/won't + => What would it take for you to (2)? | Is it your own choice that you don't (2)?
  why don't you + => What would you gain if I did (1)? | Would you rather do that yourself?
feel feeling feelings : 14
  * i feel @sad * => What makes it heavier, and what makes it lighter? | Where in your day do you feel (2) the most?
  * i feel + => When did you begin to feel (2)? | What do you do when you feel (2)?
  * => Put that feeling in one more word: which would it be? | Who knows how you feel?
am : 13
  * i am not + => Since when are you not (2)? | How would it be if you were (2)?
  * i am * @sad * => That sounds hard. What has made you (3)? | Who notices that you are (3)?
    What helps you when you are (3)?
  * i am * @happy * => Good! What made you (3)? | Whom did you tell that you are (3)?
  * i am + => Since when are you (2)? | What is it like, being (2)? | Would others also say that you are (2)?
  * am i * => What would you answer yourself? | Who could tell you that better than I?
think believe suppose : 12
  * i think/believe about/of/in + => What do you see when you think of (2)?
  * i think/believe/suppose + => What speaks against it? | How sure are you of that, from one to ten?
    When did you come to think so?
  * you think/believe * => I only turn your words round. What do you think?
love hate like miss fear : 11
  * i @fondness + => What is it that makes you (2) (3)? | Did you always (2) (3)? | What if one day you did not (2) (3)?
help advice : 10
  * => What kind of help would do you good? | What have you tried so far? | Who has helped you before?
work job boss money school : 9
  * => What would your days look like without that worry? | How much room does that take up in your life?
    What did you hope for when it began?
why : 8
  * => What do you think yourself? | Which answer would you like to hear? | When did you begin to wonder about that?
    How would your life change if you knew?
what who where when how which : 7
  how are you * => I have no ups and downs. And how are you?
  who/what are you * => A small program that answers by patterns. And who are you?
  what/who/where/when/how/which + => What is behind that question? | Whom else might you put it to?
    Suppose nobody knew: would it trouble you? | What would you guess?
can could will would : 6
  can/could/will/would you + => Perhaps not. How would it help you if I did (1)? | And you: can you (1)?
  can/could i + => What keeps you from it? | If you could (1), would you?
hello hi hey greetings : 5
  * => Hello. What is on your mind? | Hello again. Where shall we begin?
bye goodbye farewell : 5
  * => Goodbye. I liked listening. | Goodbye. What will you take with you?
thanks thank : 5
  * => You are welcome. What else is there? | With pleasure. Shall we go on?
your yours : 4
  * your + => My (2)? Tell me about yours. | What would you like my (2) to be?
my mine : 4
  * my + => What matters most to you about your (2)? | Your (2): how long has that been on your mind?
    When you think of your (2), what comes next?
you are : 3
  * you are + => What gave you the idea that I am (2)? | Who else in your life is (2)? | Suppose I am (2): what then?
  are you + => What if I am (1)? | Would it make things easier if I were (1)?
  * you * me * => What do I do that makes it seem so? | Who else treats you that way? | How is that for you?
  * you * => Enough of me: how is it with you? | Could you say the same of yourself? | What do you expect of me?
perhaps maybe possibly probably : 2
  * => What would settle it? | Which way do you lean?
yes yeah yep certainly : 2
  * => Good. And what follows from that? | That came quickly. Tell me more.
no nope : 2
  no one * => Not one? Who comes nearest? | Since when does it seem that way?
  * => What is behind that no? | Was it always a no?
i : 1
  * i was + => How much of that is still with you? | What would you say today to the one who was (2)?
  * i have been + => What began it? | How much longer, do you think?
  i + => And how was that for you? | You (1): what led up to it? | What goes through your mind as you tell me that?
"""

DEFAULTS = (
    "Tell me more about that.",
    "Take your time. What lies behind it?",
    "How does that touch you?",
    "Say it once more, in other words.",
    "What would a good friend reply to that?",
)
MEMORY = ("*", "my", "+")
REMINDERS = (
    "Let us go back a little. Your (2): what about that now?",
    "Your (2), you said before. Is there a thread from here to there?",
    "One thing keeps coming back: your (2). How does it fit in?",
)
ALIKE = """\
@family family mother father parents sister brother wife husband son daughter child children grandmother grandfather
@sad sad unhappy depressed sick tired lonely alone afraid anxious worried angry lost bored ashamed
@happy happy glad proud relieved better excited calm grateful
@fondness love hate like miss fear
"""
GROUPS = {name: tuple(words) for name, *words in map(str.split, ALIKE.splitlines())}
CONTRACTED = {"'m": " am", "'re": " are", "'ve": " have"}
EXPANDED = {"im": "i am", "u": "you", "dont": "don't", "cant": "can't", "wont": "won't", "couldn't": "can't"}
EXPANDED |= {"mum": "mother", "mom": "mother", "dad": "father", "what's": "what is", "who's": "who is"}
TURNED = {"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are"}
TURNED |= {"your": "my", "yours": "mine", "yourself": "myself"}
BESIDE = {("i", "was"): "were", ("you", "are"): "am", ("you", "were"): "was"}
OBJECT_AFTER = frozenset(("about", "at", "by", "for", "from", "of", "on", "than", "to", "with", "without"))

READ = 1000
"""Characters of one message."""
CLAUSE = 30
"""Words of one clause."""
RECALLED = 20
"""Earlier messages looked through for memories."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one set of keywords calls for."""

    rank: int
    patterns: tuple[tuple[Words, Words], ...]
    """Each with its answers."""


def answer(said: Sequence[str]) -> str:
    """The answer to the last thing the caller said in this conversation, of which `said` is all the caller's part.

    Nothing is left to chance: which of several sentences comes is a matter of how much was said before.
    """
    *earlier, last = said
    for rule, clause in called_for(clauses_of(last)):
        if reply := played(rule, clause, len(earlier)):
            return reply
    return reminder(earlier) or DEFAULTS[len(earlier) % len(DEFAULTS)]


def clauses_of(text: str) -> list[Words]:
    """The words of each clause; the first of each in lower case, the others as they came."""
    text = re.sub(r"[’‘`]", "'", text[:READ])
    parts = re.split(r"[.,:;!?](?=\s|$)|[\n()\"“”]|\sbut\s", text)
    words = (re.findall(r"\w[\w'-]*", part[:1].lower() + part[1:]) for part in map(str.strip, parts))
    return [tuple(" ".join(map(expanded, clause[:CLAUSE])).split()) for clause in words if clause]


def expanded(word: str) -> str:
    low = word.lower()
    stem, mark, rest = word.partition("'")
    return EXPANDED.get(low) or stem + CONTRACTED.get((mark + rest).lower(), mark + rest)


def called_for(clauses: Sequence[Words]) -> list[tuple[Rule, Words]]:
    """The rules that a keyword calls for, with the clause it stands in; the highest rank first, then the earliest."""
    hits = [(RULES[key], clause) for clause in clauses for key in dict.fromkeys(map(str.lower, clause)) if key in RULES]
    return sorted(hits, key=lambda hit: -hit[0].rank)


def played(rule: Rule, clause: Words, turn: int) -> str | None:
    for pattern, answers in rule.patterns:
        if (parts := matched(pattern, clause)) is not None:
            return filled(answers[turn % len(answers)], parts)
    return None


def matched(pattern: Words, words: Words) -> list[Words] | None:
    """What each numbered place of the pattern stands for, the first as short as can be; None: it does not fit."""
    if not pattern:
        return None if words else []
    head, rest = pattern[0], pattern[1:]
    if head in ("*", "+"):
        for size in range(head == "+", len(words) + 1):
            if (more := matched(rest, words[size:])) is not None:
                return [words[:size], *more]
        return None
    if not words or words[0].lower() not in (GROUPS.get(head) or head.split("/")):
        return None
    more = matched(rest, words[1:])
    return more if more is None or head not in GROUPS else [words[:1], *more]


def filled(sentence: str, parts: Sequence[Words]) -> str:
    text = re.sub(r"\((\d)\)", lambda place: " ".join(turned(parts[int(place[1]) - 1])), sentence)
    return text[0].upper() + text[1:]


def turned(words: Words) -> list[str]:
    """Said back from the other side: my to your, you to I or me."""
    low = ["", *map(str.lower, words), ""]
    return [turned_word(word, low[at], low[at + 2]) for at, word in enumerate(words)]


def turned_word(word: str, before: str, after: str) -> str:
    low = word.lower()
    if low == "you":
        return "me" if after in ("", "to") or before in OBJECT_AFTER else "I"
    return BESIDE.get((before, low)) or BESIDE.get((after, low)) or TURNED.get(low, word)


def reminder(earlier: Sequence[str]) -> str | None:
    """Every second time that nothing else fits: something of the caller's own from before."""
    clauses = [clause for text in earlier[-RECALLED:] for clause in clauses_of(text)]
    memories = [parts for clause in clauses if (parts := matched(MEMORY, clause)) is not None]
    nth, rest = divmod(len(earlier), 2)
    if not memories or not rest:
        return None
    return filled(REMINDERS[nth % len(REMINDERS)], memories[nth % len(memories)])


def rules_of(script: str) -> dict[str, Rule]:
    """A script in the form told above, by keyword."""
    rules: dict[str, Rule] = {}
    for block in re.split(r"\n(?=\S)", script.rstrip()):
        head, *lines = block.split("\n")
        keys, _, rank = head.partition(" : ")
        rules |= dict.fromkeys(GROUPS.get(keys) or keys.split(), Rule(int(rank), patterns_of(lines)))
    return rules


def patterns_of(lines: Sequence[str]) -> tuple[tuple[Words, Words], ...]:
    patterns: list[tuple[Words, Words]] = []
    for line in lines:
        pattern, arrow, answers = line.partition(" => ")
        if arrow:
            patterns.append((tuple(pattern.split()), tuple(answers.split(" | "))))
        else:
            before, first = patterns.pop()
            patterns.append((before, (*first, *line.strip().split(" | "))))
    return tuple(patterns)


RULES = rules_of(SCRIPT)
