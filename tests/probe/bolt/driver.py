"""One query by the official driver, and what it saw, as JSON.

Its user agent is given, so that the bytes it sends can be compared with another client's.
"""

import json
import sys

import neo4j

uri, user, password, agent = sys.argv[1:]
options = {
    "auth": (user, password),
    "telemetry_disabled": True,
    "user_agent": agent,
    "connection_timeout": 20,
    "connection_acquisition_timeout": 20,
}
session_options = {
    "database": "neo4j",
    "default_access_mode": neo4j.READ_ACCESS,
    "fetch_size": 1,
}
with neo4j.GraphDatabase.driver(uri, **options) as driver:
    with driver.session(**session_options) as session:
        result = session.run(neo4j.Query("RETURN 1", timeout=10))
        value = result.single().value()
        server = result.consume().server
print(json.dumps({"value": value, "agent": server.agent, "protocol": server.protocol_version}))
