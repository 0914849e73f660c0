"""The report of a verification: each check's result, with what was expected, found and where."""

from dataclasses import asdict, dataclass
from typing import Any

from runtime.errors import FashionZooError


@dataclass(frozen=True)
class Check:
    """One check's result; `detail` is a sentence for people, `measures` the figures behind it."""

    name: str
    passed: bool
    detail: str
    measures: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Report:
    """All verdicts on one file.

    Attributes:
        conditions: the hashes, versions, provider and data that they hold for.
        not_proved: operators that the checks cannot vouch for, `{operator, node, reason}` each.
    """

    model: str
    checks: tuple[Check, ...]
    conditions: dict[str, Any]
    not_proved: tuple[dict[str, Any], ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "passed": self.passed,
            "checks": [check.as_dict() for check in self.checks],
            "not_proved": list(self.not_proved),
            "conditions": self.conditions,
        }

    def require(self) -> None:
        """Raise VerificationFailed unless every check passed."""
        if not self.passed:
            raise VerificationFailed(self)


class VerificationFailed(FashionZooError):
    """A check failed; `.report` has all of them."""

    exit_code = 3

    def __init__(self, report: Report) -> None:
        failures = "; ".join(f"{check.name}: {check.detail}" for check in report.failures)
        super().__init__(f"{report.model} failed {len(report.failures)} of {len(report.checks)} checks: {failures}")
        self.report = report
