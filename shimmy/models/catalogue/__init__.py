"""Models worth having: a list with sources, what they take, and which of them fit a machine."""

from shimmy.models.catalogue.entry import CatalogueModel, Use
from shimmy.models.catalogue.listing import Catalogue, catalogue
from shimmy.models.catalogue.recommend import Machine, Recommendation, recommend

__all__ = [
    "Catalogue",
    "CatalogueModel",
    "Machine",
    "Recommendation",
    "Use",
    "catalogue",
    "recommend",
]
