"""AUTOFORGE: the database's pool, how long requests and queries take, what was promised, what is left of budgets."""

from grafana import NOT_ZERO, Board, bars, gauge, high, label_values, low, prom, series, source, stat

FOLDER = "AUTOFORGE"
TAGS = ["utilizer", "autoforge"]

JOB = 'job=~"$job"'


def boards():
    return [database()]


def _quantile(q, metric):
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{JOB}}}[$__rate_interval])))"


def database():
    pool = f"sum(sqlalchemy_pool_checked_out{{{JOB}}}) / sum(sqlalchemy_pool_size{{{JOB}}})"
    available = f'sum(rate(http_requests_total{{status!~"5..",{JOB}}}[%s])) / sum(rate(http_requests_total{{{JOB}}}[%s]))'
    requests, queries = "http_request_duration_seconds", "turso_query_duration_seconds"
    # Quantiles over five minutes, looked at each minute of the time range: how long the promise held.
    held = "avg_over_time((histogram_quantile(%s, sum by (le) (rate(%s_bucket{%s}[5m]))) < bool %s)[$__range:1m])"
    board = Board("autoforge-database", "Database and SLOs", FOLDER, TAGS, [source("prometheus"), label_values(
        "job", "Job", 'label_values({__name__=~"sqlalchemy_.+|turso_.+|http_request_duration_seconds_bucket"}, job)')],
        "Connection pool, response times, objectives and budgets.", since="now-6h")
    board.row(
        "Now",
        gauge("Connection pool", "percentunit", prom(pool), maximum=1, steps=high(0.7, 0.8),
              desc="Share of the connections in use."),
        stat("API response, p95", "s", prom(_quantile(0.95, requests)), h=6, steps=[(None, "green"), (0.5, "red")]),
        stat("Query, p95", "s", prom(_quantile(0.95, queries)), h=6, steps=[(None, "green"), (1, "red")]),
        stat("Available", "percentunit", prom(available % ("5m", "5m")), h=6, steps=low(0.999), decimals=2),
        stat("Requests", "reqps", prom(f"sum(rate(http_requests_total{{{JOB}}}[$__rate_interval]))"), h=6),
        stat("Firing alerts", "short", prom('count(ALERTS{alertstate="firing"}) or vector(0)'), h=6, steps=NOT_ZERO),
    ).row(
        "Database",
        series("Connection pool", "short", prom(f"sum(sqlalchemy_pool_checked_out{{{JOB}}})", "in use"),
               prom(f"sum(sqlalchemy_pool_size{{{JOB}}})", "size"), minimum=0),
        series("Share of the pool", "percentunit", prom(pool, "in use"), minimum=0, maximum=1, steps=high(0.7, 0.8)),
        series("Query time", "s", *(prom(_quantile(q, queries), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
               minimum=0,
               steps=[(None, "green"), (1, "red")]),
    ).row(
        "API",
        series("Response time", "s", *(prom(_quantile(q, requests), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
               w=12, minimum=0,
               steps=[(None, "green"), (0.5, "red")]),
        series("Requests by status", "reqps",
               prom(f"sum by (status) (rate(http_requests_total{{{JOB}}}[$__rate_interval]))", "{{status}}"),
               w=12, stack=True, minimum=0),
    ).row(
        "Objectives",
        stat("Available", "percentunit", prom(available % ("$__range", "$__range")), w=6, steps=low(0.999), decimals=3,
             spark=False,
             desc="99.9 % of the requests without a 5xx."),
        stat("Error budget left", "percentunit", prom(f"1 - (1 - {available % ('$__range', '$__range')}) / 0.001"), w=6,
             spark=False,
             steps=low(0, 0.25), decimals=1, desc="Of the 0.1 % that may fail, in the time range."),
        stat("p95 of requests below 0.5 s", "percentunit", prom(held % (0.95, requests, JOB, 0.5)), w=6, spark=False,
             steps=low(0.95),
             desc="Share of the time range in which that held: 95 % are promised."),
        stat("p99 of queries below 1 s", "percentunit", prom(held % (0.99, queries, JOB, 1)), w=6, spark=False,
             steps=low(0.99),
             desc="Share of the time range in which that held: 99 % are promised."),
    ).row(
        "Budgets and models",
        bars("Used of the day's budget", "percentunit",
             prom("sum(autoforge:cloudflare_workers_requests:day) / 100000", "Cloudflare Workers: requests"),
             prom("sum(autoforge:turso_rows_read:day) / 1000000", "Turso: rows read"), rows=False, minimum=0, maximum=1,
             steps=high(0.8, 1),
             desc="By the recording rules of config/examples/autoforge."),
        series("Cost of language models", "currencyUSD",
               prom("sum by (provider, model) (autoforge:llm_cost_dollars:day)", "{{provider}} {{model}}"),
               minimum=0, desc="Of a day, where the client counts it."),
        series("Language models: failures", "percentunit",
               prom("""sum by (provider, model) (rate(llm_requests_total{status!="ok"}[$__rate_interval]))
               / sum by (provider, model) (rate(llm_requests_total[$__rate_interval]))""", "{{provider}} {{model}}"),
               minimum=0, maximum=1),
    )
    return board
