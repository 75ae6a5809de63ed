"""The part of the SARIF 2.1.0 schema that a log of findings uses, written out by hand from the standard.

No package that pip installs ships the official schema. This excerpt is as strict: required properties, types, enumerations,
lower limits, and no properties besides those that the standard names for an object (those not used are accepted by name).
"""

from __future__ import annotations

from typing import Any

__all__ = ["SARIF_SCHEMA"]

TEXT = {"type": "string"}
ANY: dict[str, Any] = {}
BAG = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True, "items": TEXT}}}
TEXTS = {"type": "object", "additionalProperties": TEXT}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def record(properties: dict[str, Any], *, required: tuple[str, ...] = (), unused: str = "") -> dict[str, Any]:
    named = {**dict.fromkeys(unused.split(), ANY), **properties, "properties": BAG}
    return {"type": "object", "properties": named, "required": list(required), "additionalProperties": False}


def listed(item: dict[str, Any], *, unique: bool = True) -> dict[str, Any]:
    return {"type": "array", "minItems": 0, "uniqueItems": unique, "items": item}


MESSAGE = record({"text": TEXT, "markdown": TEXT, "id": TEXT, "arguments": listed(TEXT, unique=False)})
MESSAGE["anyOf"] = [{"required": ["text"]}, {"required": ["id"]}]
FORMATTED = record({"text": TEXT, "markdown": TEXT}, required=("text",))
ARTIFACT_LOCATION = record(
    {
        "uri": {"type": "string", "format": "uri-reference"},
        "uriBaseId": TEXT,
        "index": {"type": "integer", "minimum": -1},
        "description": MESSAGE,
    }
)
POSITION = {"type": "integer", "minimum": 1}
REGION = record(
    {"startLine": POSITION, "startColumn": POSITION, "endLine": POSITION, "endColumn": POSITION},
    unused="charOffset charLength byteOffset byteLength snippet message sourceLanguage",
)
PHYSICAL_LOCATION = record({"artifactLocation": ARTIFACT_LOCATION, "region": REGION}, unused="address contextRegion")
PHYSICAL_LOCATION["anyOf"] = [{"required": ["address"]}, {"required": ["artifactLocation"]}]
INDEX = {"type": "integer", "minimum": -1}
LOGICAL_LOCATION = record(
    {"name": TEXT, "index": INDEX, "fullyQualifiedName": TEXT, "decoratedName": TEXT, "parentIndex": INDEX, "kind": TEXT}
)
LOCATION = record(
    {"id": INDEX, "physicalLocation": PHYSICAL_LOCATION, "logicalLocations": listed(LOGICAL_LOCATION), "message": MESSAGE},
    unused="annotations relationships",
)
CONFIGURATION = record({"enabled": {"type": "boolean"}, "level": LEVEL, "rank": {"type": "number"}}, unused="parameters")
RULE = record(
    {
        "id": TEXT,
        "name": TEXT,
        "shortDescription": FORMATTED,
        "fullDescription": FORMATTED,
        "defaultConfiguration": CONFIGURATION,
        "helpUri": {"type": "string", "format": "uri"},
        "help": FORMATTED,
    },
    required=("id",),
    unused="deprecatedIds guid deprecatedGuids deprecatedNames messageStrings relationships",
)
COMPONENT = record(
    {
        "name": TEXT,
        "version": TEXT,
        "semanticVersion": TEXT,
        "informationUri": {"type": "string", "format": "uri"},
        "rules": listed(RULE),
    },
    required=("name",),
    unused="guid organization product productSuite shortDescription fullDescription fullName dottedQuadFileVersion "
    "releaseDateUtc downloadUri globalMessageStrings notifications taxa locations language contents isComprehensive "
    "localizedDataSemanticVersion minimumRequiredLocalizedDataSemanticVersion associatedComponent "
    "translationMetadata supportedTaxonomies",
)
TOOL = record({"driver": COMPONENT, "extensions": listed(COMPONENT)}, required=("driver",))
ARTIFACT = record(
    {"location": ARTIFACT_LOCATION, "length": INDEX, "hashes": TEXTS, "mimeType": TEXT},
    unused="description parentIndex offset roles contents encoding sourceLanguage lastModifiedTimeUtc",
)
RESULT = record(
    {
        "ruleId": TEXT,
        "ruleIndex": INDEX,
        "kind": {"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": listed(LOCATION, unique=False),
        "partialFingerprints": TEXTS,
        "fingerprints": TEXTS,
    },
    required=("message",),
    unused="rule analysisTarget guid correlationGuid occurrenceCount stacks codeFlows graphs graphTraversals "
    "relatedLocations suppressions baselineState rank attachments hostedViewerUri workItemUris provenance fixes "
    "taxa webRequest webResponse",
)
RUN = record(
    {
        "tool": TOOL,
        "artifacts": listed(ARTIFACT),
        "results": listed(RESULT, unique=False),
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    },
    required=("tool",),
    unused="invocations conversion language versionControlProvenance originalUriBaseIds logicalLocations graphs "
    "automationDetails runAggregates baselineGuid redactionTokens defaultEncoding defaultSourceLanguage "
    "newlineSequences externalPropertyFileReferences threadFlowLocations taxonomies addresses translations policies "
    "webRequests webResponses specialLocations",
)
SARIF_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **record(
        {
            "$schema": {"type": "string", "format": "uri"},
            "version": {"enum": ["2.1.0"]},
            "runs": {"type": "array", "minItems": 0, "items": RUN},
        },
        required=("version", "runs"),
        unused="inlineExternalProperties",
    ),
}
