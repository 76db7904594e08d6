"""A chest phantom and a CT scanner: paired series with lesions whose masks are exact."""
