"""Schemas of the HTTP API, one file per noun, shared by server and client.

They import nothing from the service.
"""

from __future__ import annotations

from evalsvc.api.schemas.aliases import Alias, Promote, PromoteOptions, Promotion, Protect, Protection
from evalsvc.api.schemas.audit import AuditEntry
from evalsvc.api.schemas.common import (
    CliOption,
    Digest,
    Digits,
    Document,
    FieldError,
    Id,
    Item,
    LongText,
    Name,
    Page,
    PolicyText,
    Problem,
    Reason,
    SuiteName,
    Text,
    Whole,
)
from evalsvc.api.schemas.evaluations import (
    Deadlines,
    Evaluation,
    EvaluationCreate,
    EvaluationDetail,
    EvaluationOptions,
    Stage,
)
from evalsvc.api.schemas.gates import Candidate, DecideGate, Gate, GateDetail, GateOptions
from evalsvc.api.schemas.items import (
    ItemChange,
    ItemComparison,
    ItemFacts,
    ItemListing,
    ItemMeasure,
    ItemSample,
    ItemSlice,
)
from evalsvc.api.schemas.leaderboard import Board, Column, Comparison, Difference, Entry, Farther
from evalsvc.api.schemas.models import Checkpoint, Model, Upload
from evalsvc.api.schemas.ratings import Agreement, PeopleAndJudge, Rate, Rated, Rates, Ratings
from evalsvc.api.schemas.scores import Artifact, Protocol, Score
from evalsvc.api.schemas.server import About, Health
from evalsvc.api.schemas.suites import Reference, Suite
from evalsvc.api.schemas.tokens import ScopeName, Token, TokenCreate, TokenCreated
from evalsvc.api.schemas.webhooks import EVENTS, EventName, Webhook, WebhookCreate, WebhookCreated
from evalsvc.api.schemas.workers import Worker

__all__ = [
    "EVENTS",
    "About",
    "Agreement",
    "Alias",
    "Artifact",
    "AuditEntry",
    "Board",
    "Candidate",
    "Checkpoint",
    "CliOption",
    "Column",
    "Comparison",
    "Deadlines",
    "DecideGate",
    "Difference",
    "Digest",
    "Digits",
    "Document",
    "Entry",
    "Evaluation",
    "EvaluationCreate",
    "EvaluationDetail",
    "EvaluationOptions",
    "EventName",
    "Farther",
    "FieldError",
    "Gate",
    "GateDetail",
    "GateOptions",
    "Health",
    "Id",
    "Item",
    "ItemChange",
    "ItemComparison",
    "ItemFacts",
    "ItemListing",
    "ItemMeasure",
    "ItemSample",
    "ItemSlice",
    "LongText",
    "Model",
    "Name",
    "Page",
    "PeopleAndJudge",
    "PolicyText",
    "Problem",
    "Promote",
    "PromoteOptions",
    "Promotion",
    "Protect",
    "Protection",
    "Protocol",
    "Rate",
    "Rated",
    "Rates",
    "Ratings",
    "Reason",
    "Reference",
    "ScopeName",
    "Score",
    "Stage",
    "Suite",
    "SuiteName",
    "Text",
    "Token",
    "TokenCreate",
    "TokenCreated",
    "Upload",
    "Webhook",
    "WebhookCreate",
    "WebhookCreated",
    "Whole",
    "Worker",
]
