def render(results, metrics):
    return "card"
