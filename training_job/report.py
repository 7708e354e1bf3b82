def render(results, metrics, scored, engine):
    return "<html></html>"
