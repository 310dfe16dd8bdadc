"""What skills can do. Every operation is a pure function of its input."""

import re
from collections import Counter


def summarise(text: str) -> str:
    words = text.split()
    return " ".join(words[:12]) + (" …" if len(words) > 12 else "")


def count(text: str) -> str:
    return f"{len(text.split())} words, {len(text)} characters"


def add(text: str) -> str:
    numbers = [int(n) for n in re.findall(r"-?\d{1,18}", text)]
    return str(sum(numbers))


def keywords(text: str) -> str:
    words = Counter(re.findall(r"[a-zäöüß]{4,}", text.lower()))
    return ", ".join(word for word, _ in words.most_common(5))


OPERATIONS = {"summarise": summarise, "count": count, "add": add, "keywords": keywords}
