# Nothing is typed here: it is compiled since it is called for each few clients.
