"""What a Grafana dashboard is made of: data sources, variables, queries, panels and their places in the grid."""

import json

PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${postgres}"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "${clickhouse}"}
SOURCES = {"prometheus": ("Prometheus", PROMETHEUS), "postgres": ("PostgreSQL", POSTGRES),
           "clickhouse": ("ClickHouse", CLICKHOUSE)}

# Grafana's grid has this many columns.
COLUMNS = 24


# ---- Queries

def prom(expr, legend="", instant=False):
    """PromQL: over the time range, or now, as a table."""
    return {
        "datasource": PROMETHEUS, "editorMode": "code", "expr": _one_line(expr), "legendFormat": legend or "__auto",
        "instant": instant, "range": not instant, "format": "table" if instant else "time_series",
    }


def pg(sql, series=False):
    """PostgreSQL: a table, or series by `time`, with their names in `metric`."""
    return {
        "datasource": POSTGRES, "editorMode": "code", "rawQuery": True, "rawSql": _lines(sql),
        "format": "time_series" if series else "table",
    }


# As the ClickHouse plugin counts the forms of an answer.
_FORMS = {"timeseries": 0, "table": 1, "logs": 2}


def ch(sql, form="table"):
    """ClickHouse: a `table`, a `timeseries` by `time` with names in `metric`, or `logs`."""
    return {"datasource": CLICKHOUSE, "editorType": "sql", "rawSql": _lines(sql), "queryType": form,
            "format": _FORMS[form]}


def _one_line(text):
    return " ".join(text.split())


def _lines(text):
    return "\n".join(line.strip() for line in text.strip().splitlines())


# ---- Variables

def source(name):
    """Which data source of a kind."""
    label, kind = SOURCES[name]
    return {
        "name": name, "label": label, "type": "datasource", "query": kind["type"], "refresh": 1, "regex": "", "hide": 0,
        "includeAll": False, "multi": False, "current": {}, "options": [], "skipUrlSync": False,
    }


def _choice(name, label, datasource, query, definition, multi):
    chosen = {"selected": True, "text": ["All"], "value": ["$__all"]} if multi else {}
    return {
        "name": name, "label": label, "type": "query", "datasource": datasource, "query": query,
        "definition": definition,
        # With the time range, and sorted by the alphabet.
        "refresh": 2, "sort": 1, "regex": "", "hide": 0, "includeAll": multi, "multi": multi, "current": chosen,
        "options": [], "skipUrlSync": False,
    }


def label_values(name, label, query, multi=True):
    """The values of a Prometheus label."""
    return _choice(name, label, PROMETHEUS, {"query": query, "refId": name, "qryType": 1}, query, multi)


def pg_values(name, label, sql, multi=True):
    """What a query to PostgreSQL gives."""
    return _choice(name, label, POSTGRES, sql, sql, multi)


def ch_values(name, label, sql, multi=True):
    """What a query to ClickHouse gives."""
    return _choice(name, label, CLICKHOUSE, sql, sql, multi)


def text(name, label):
    """A text that the reader types."""
    return {"name": name, "label": label, "type": "textbox", "query": "", "current": {"text": "", "value": ""},
            "options": [], "hide": 0, "skipUrlSync": False}


# ---- Thresholds

def high(warning, critical):
    """Green, from `warning` on orange, from `critical` on red."""
    return [(None, "green"), (warning, "orange"), (critical, "red")]


def low(critical, well=None):
    """Red below `critical`, green from `well` on; orange between them."""
    return [(None, "red"), (critical, "green")] if well is None else [(None, "red"), (critical, "orange"),
        (well, "green")]


NOT_ONE = low(1)
NOT_ZERO = [(None, "green"), (1, "red")]
PLAIN = [(None, "blue")]
UP_DOWN = [{"type": "value", "options": {"0": {"text": "down", "color": "red", "index": 0},
                                         "1": {"text": "up", "color": "green", "index": 1}}}]
LEVELS = {"DEBUG": "#8e8e8e", "INFO": "#73bf69", "WARN": "#ff9830", "ERROR": "#f2495c", "FATAL": "#c4162a"}
STATUSES = {"pending": "#5794f2", "running": "#fade2a", "completed": "#73bf69", "failed": "#f2495c"}


# ---- Panels

def _panel(kind, title, unit, targets, *, w, h, desc="", steps=None, options=None, custom=None, name="", decimals=None,
           minimum=None, maximum=None, mappings=(), overrides=(), transformations=(), color=None, interval=None):
    for letter, target in zip("ABCDEFGH", targets, strict=False):
        target["refId"] = letter
    defaults = {
        "unit": unit, "color": {"mode": color or ("thresholds" if steps else "palette-classic")},
        "thresholds": {"mode": "absolute",
                       "steps": [{"value": value, "color": shade} for value, shade in steps or PLAIN]},
        "mappings": list(mappings), "custom": custom or {},
    }
    for key, value in (("displayName", name), ("decimals", decimals), ("min", minimum), ("max", maximum)):
        if value not in (None, ""):
            defaults[key] = value
    panel = {
        "type": kind, "title": title, "description": desc, "datasource": targets[0]["datasource"],
        "targets": list(targets),
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)}, "options": options or {},
        "transformations": list(transformations), "gridPos": {"w": w, "h": h},
    }
    if interval:
        panel["interval"] = interval
    return panel


def series(title, unit, *targets, w=8, h=8, stack=False, bars=False, steps=None, table=False, right=False, **more):
    """Lines over time, or bars; thresholds are drawn as lines."""
    custom = {
        "drawStyle": "bars" if bars else "line", "lineWidth": 0 if bars else 1,
        "fillOpacity": 80 if bars else 30 if stack else 8,
        "showPoints": "never", "spanNulls": 180000, "lineInterpolation": "linear", "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    legend = {"displayMode": "table", "calcs": ["lastNotNull", "mean", "max"]} if table else {"displayMode": "list",
        "calcs": []}
    legend |= {"placement": "right" if right else "bottom", "showLegend": True}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if any(target["datasource"] is CLICKHOUSE for target in targets):
        # The plugin keeps the name of a series as its label.
        more.setdefault("name", "${__field.labels.metric}")
    more.setdefault("color", "palette-classic")
    return _panel("timeseries", title, unit, targets, w=w, h=h, steps=steps, custom=custom, options=options, **more)


def _reduce(calc, rows):
    return {"calcs": [calc], "fields": "", "values": rows}


def stat(title, unit, *targets, w=4, h=4, steps=PLAIN, calc="lastNotNull", spark=True, **more):
    """A large number."""
    options = {"reduceOptions": _reduce(calc, False), "colorMode": "value", "graphMode": "area" if spark else "none",
               "textMode": "auto", "justifyMode": "auto", "orientation": "auto"}
    return _panel("stat", title, unit, targets, w=w, h=h, steps=steps, options=options, **more)


def gauge(title, unit, *targets, w=4, h=6, steps=PLAIN, minimum=0, maximum=100, **more):
    """A dial."""
    options = {"reduceOptions": _reduce("lastNotNull", False), "showThresholdMarkers": True,
               "showThresholdLabels": False}
    return _panel("gauge", title, unit, targets, w=w, h=h, steps=steps, options=options, minimum=minimum,
                  maximum=maximum, **more)


def bars(title, unit, *targets, w=8, h=8, steps=PLAIN, rows=True, **more):
    """Bars side by side: one a row of a table, or one a series."""
    options = {"reduceOptions": _reduce("lastNotNull", rows), "displayMode": "gradient", "orientation": "horizontal",
               "showUnfilled": True, "valueMode": "color"}
    return _panel("bargauge", title, unit, targets, w=w, h=h, steps=steps, options=options, **more)


def pie(title, unit, *targets, w=6, h=8, rows=True, colors=None, **more):
    """Shares of a whole."""
    options = {"reduceOptions": _reduce("lastNotNull", rows), "pieType": "donut", "displayLabels": ["percent"],
               "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "values": ["value"]},
               "tooltip": {"mode": "single", "sort": "none"}}
    return _panel("piechart", title, unit, targets, w=w, h=h, options=options, overrides=painted(colors), **more)


def table(title, *targets, w=12, h=8, unit="short", units=None, hide=(), rename=None, links=None, widths=None,
          sort=None, paint=None,
          transformations=(), **more):
    """Rows. `units` by column; `paint` gives thresholds by column; `links` a board by column."""
    overrides = []
    for column, of_column in (units or {}).items():
        overrides.append(_by_name(column, [{"id": "unit", "value": of_column}]))
    for column, steps in (paint or {}).items():
        overrides.append(_by_name(column, [
            {"id": "thresholds", "value": {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in steps]}},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}}]))
    for column, (label, url) in (links or {}).items():
        overrides.append(_by_name(column, [{"id": "links", "value": [{"title": label, "url": url}]}]))
    for column, width in (widths or {}).items():
        overrides.append(_by_name(column, [{"id": "custom.width", "value": width}]))
    steps = list(transformations)
    if hide or rename:
        steps.append({"id": "organize",
                      "options": {"excludeByName": {name: True for name in hide}, "renameByName": rename or {},
                                                    "indexByName": {}}})
    options = {"showHeader": True, "cellHeight": "sm",
               "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
               "sortBy": [{"displayName": sort, "desc": True}] if sort else []}
    return _panel("table", title, unit, targets, w=w, h=h, options=options, overrides=overrides, transformations=steps,
                  custom={"align": "auto", "filterable": True, "inspect": False}, **more)


def states(title, *targets, w=24, h=8, mappings=UP_DOWN, **more):
    """What was up when."""
    options = {"mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
               "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
               "tooltip": {"mode": "single", "sort": "none"}}
    return _panel("state-timeline", title, "short", targets, w=w, h=h, options=options, mappings=mappings,
                  steps=NOT_ONE,
                  custom={"fillOpacity": 70, "lineWidth": 0}, **more)


def heatmap(title, unit, *targets, w=12, h=8, **more):
    """How values are distributed over time, from the cumulative buckets of a histogram or from buckets of our own."""
    options = {"calculate": False, "cellGap": 1,
               "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5,
                                                          "fill": "dark-orange", "reverse": False,
                                                          "scale": "exponential"},
               "yAxis": {"axisPlacement": "left", "unit": unit}, "cellValues": {"unit": "short"},
               "tooltip": {"mode": "single", "yHistogram": True}, "legend": {"show": True},
               "rowsFrame": {"layout": "auto"},
               "showValue": "never", "filterValues": {"le": 1e-9}, "exemplars": {"color": "rgba(255,0,255,0.7)"}}
    for target in targets:
        if target["datasource"] is PROMETHEUS:
            target["format"] = "heatmap"
    return _panel("heatmap", title, unit, targets, w=w, h=h, options=options, **more)


def lines(title, target, w=24, h=12, desc=""):
    """Lines of logs."""
    options = {"showTime": True, "showLabels": False, "showCommonLabels": False, "wrapLogMessage": True,
               "prettifyLogMessage": False,
               "enableLogDetails": True, "dedupStrategy": "none", "sortOrder": "Descending"}
    return _panel("logs", title, "none", [target], w=w, h=h, options=options, desc=desc)


def _by_name(name, properties):
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def painted(colors):
    """Series of these names in these colours."""
    return [_by_name(name, [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]) for name,
            color in (colors or {}).items()]


# ---- Boards

class Board:
    """A dashboard: rows of panels, which find their places by themselves."""

    def __init__(self, uid, title, folder, tags, variables, desc, since="now-6h", refresh="30s"):
        self.folder, self.uid, self._y, self._panels = folder, uid, 0, []
        self._head = {
            "uid": uid, "title": title, "description": desc, "tags": tags, "time": {"from": since, "to": "now"},
            "refresh": refresh,
            "templating": {"list": variables},
            "links": [
                {"type": "dashboards", "title": label, "tags": [tag], "asDropdown": True, "icon": "external link",
                 "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": ""}
                for tag, label in dict([(tags[-1], folder), ("utilizer", "All boards")]).items()
            ],
        }

    def row(self, title, *panels):
        """A heading, and panels from left to right; what finds no room begins a line of its own."""
        self._panels.append({"type": "row", "title": title, "collapsed": False, "panels": [],
                             "gridPos": {"x": 0, "y": self._y, "w": COLUMNS, "h": 1}})
        self._y += 1
        x = height = 0
        for panel in panels:
            place = panel["gridPos"]
            if x + place["w"] > COLUMNS:
                x, self._y, height = 0, self._y + height, 0
            panel["gridPos"] = {"x": x, "y": self._y, "w": place["w"], "h": place["h"]}
            x, height = x + place["w"], max(height, place["h"])
            self._panels.append(panel)
        self._y += height
        return self

    def json(self):
        """The file that Grafana reads."""
        panels = [{"id": number, **panel} for number, panel in enumerate(self._panels, 1)]
        board = self._head | {
            "id": None, "panels": panels, "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1,
            "timezone": "browser", "weekStart": "", "fiscalYearStartMonth": 0, "preload": False,
            "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m", "1h"]},
            "annotations": {"list": [{"builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                "enable": True,
                                      "hide": True, "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts",
                                      "type": "dashboard"}]},
        }
        return json.dumps(board, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
