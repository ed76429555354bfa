"""The pretend municipality of Saensuk takes documents by its own class."""


class Registry:
    pass
