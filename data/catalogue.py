"""Products of the data as the shop's catalogue takes them: readable names, weights in grams, departments and categories."""

import re
from typing import Any

from data.baskets import ProductRow

DEFAULT_GRAMS = 500
"""For what is sold by the piece, or whose package size tells no weight."""
HEAVIEST_GRAMS = 25_000
"""Nobody carries more in one package: such a size is the volume of a bin liner, or a misprint, and counts as unknown."""
NO_CATEGORY = "Other"

_GRAMS = {
    "OZ": 28.35, "Z": 28.35, "LB": 453.6,  # weights
    "GA": 3785.0, "GAL": 3785.0, "QT": 946.0, "PT": 473.0, "L": 1000.0, "LT": 1000.0, "ML": 1.0,  # volumes: as of water
}  # fmt: skip
_WEIGHTS = ("OZ", "Z", "LB")
_FRACTION = re.compile(r"(?<![\d./])(?:(\d+) +)?([1357])/([248])(?= *[A-Z])")
_MEASURE = re.compile(
    r"(?:(?P<packs>\d+) *(?:PK?[ /-]*|[/-] *))?"  # "6 PK/8 OZ", "3 PK 3.0 OZ", "24/16.9 OZ", "4-4 OZ": each pack weighs that
    r"(?P<amount>\d*\.?\d+) *(?:FL *)?(?P<unit>OZ|Z|LB|GAL|GA|QT|PT|ML|LT|L)(?:ON|S)?(?![A-Z])"
    r"(?: */ *(?P<packs_after>\d+) *PK)?"  # "12 OZ/12 PK"
)


def weight_in_grams(package_size: str) -> int:
    """The weight that a package size tells, or DEFAULT_GRAMS.

    Packs multiply ("24/16.9 OZ", "6 PK/8 OZ"); a count does not ("10.4 OZ/8 CT" is 10.4 ounces in all). Where a size has a weight
    and a volume, the weight counts. It is a guess that is good enough for shipping rates, without the packing.
    """
    size = _FRACTION.sub(_decimal, package_size.upper().strip())
    if size in ("PT", "QT", "GAL"):
        size = f"1 {size}"
    measures = sorted(_MEASURE.finditer(size), key=lambda measure: measure["unit"] not in _WEIGHTS)
    if not measures:
        return DEFAULT_GRAMS
    measure = measures[0]
    packs = int(measure["packs"] or measure["packs_after"] or 1)
    grams = round(packs * float(measure["amount"]) * _GRAMS[measure["unit"]])
    return grams if 1 <= grams <= HEAVIEST_GRAMS else DEFAULT_GRAMS


def _decimal(match: re.Match[str]) -> str:
    """`10 3/4` → `10.75`; `3/2` is no fraction here, but three packs of two."""
    whole, over, under = int(match[1] or 0), int(match[2]), int(match[3])
    return f"{whole + over / under}" if over < under else match[0]


_WORDS = {
    "BKD": "Baked", "BN": "Beans", "BRD": "Bread", "BRKFST": "Breakfast", "BTL": "Bottle", "BTR": "Butter",
    "CARB": "Carbonated", "CHIX": "Chicken", "CHOC": "Chocolate", "CHOCOCLATE": "Chocolate", "CKYS": "Cookies",
    "CLEANG": "Cleaning", "CNDY": "Candy", "COCO": "Cocoa", "CONC": "Concentrate", "CRAN": "Cranberry",
    "CRBNTD": "Carbonated", "CRKR": "Crackers", "CRMD": "Creamed", "CRYSTL": "Crystal", "DISPOSIBLE": "Disposable",
    "DNR": "Dinner", "DNRS": "Dinners", "DRNK": "Drink", "DRNKING": "Drinking", "DRNKS": "Drinks", "DRSNG": "Dressing",
    "DSH": "Dishes", "EXCP": "Except", "FD": "Food", "FEM": "Feminine", "FLVR": "Flavor", "FLVRD": "Flavored",
    "FRZ": "Frozen", "FRZN": "Frozen", "GDS": "Goods", "GM": "General Merchandise", "HBC": "Health & Beauty Care",
    "HYGN": "Hygiene", "INCL": "Including", "JCE": "Juice", "MISC": "Miscellaneous", "MIXS": "Mixes", "MLT": "Multi",
    "MNERAL": "Mineral", "MW": "Microwave", "MX": "Mix", "MXS": "Mixes", "PCKGD": "Packaged", "PK": "Pack",
    "PKGD": "Packaged", "PKLD": "Pickled", "PLSTC": "Plastic", "PNT": "Peanut", "PORTON": "Portion", "PREM": "Premium",
    "PWDR": "Powder", "REFRGRATD": "Refrigerated", "REFRIG": "Refrigerated", "SALD": "Salad", "SFT": "Soft",
    "SGL": "Single", "SHERBTS": "Sherbets", "SNDWCH": "Sandwich", "SNGL": "Single", "SNKS": "Snacks",
    "SPECILATY": "Specialty", "SPLY": "Supplies", "SPRD": "Spread", "SRV": "Serve", "SS": "Single-Serve",
    "STK": "Stick", "SUPPPLIES": "Supplies", "SV": "Serve", "SWEETNERS": "Sweeteners", "TISS": "Tissue",
    "TRSH": "Trash", "VEG": "Vegetable", "WHL": "Whole", "WHLSM": "Wholesome", "WTR": "Water",
}  # fmt: skip
"""What the commonest abbreviations (and misprints) of the data stand for, so that a search finds them."""


def readable(text: str) -> str:
    """`FRZN MEAT/MEAT DINNERS` → `Frozen Meat/Meat Dinners`."""
    return re.sub(r"[A-Z][A-Z']*", lambda word: _WORDS.get(word[0], word[0].capitalize()), " ".join(text.upper().split()))


def product_name(row: ProductRow) -> str:
    """Brand, type and size: `National Cream Cheese, 8 oz`."""
    size = re.sub(r"^[A-Z] +", "", " ".join(row.package_size.split())).lower()  # a leading letter is a mark of the data's
    name = f"{row.brand.strip()} {readable(row.product_type)}".strip()
    return f"{name}, {size}" if size else name


def import_row(row: ProductRow) -> dict[str, Any]:
    """A product as JSON for the catalogue's import (`POST /api/v1/products/import`, up to 1000 in `products`)."""
    return {
        "product_id": row.product_id,
        "name": product_name(row),
        "department": readable(row.department),
        "category": readable(row.product_category) or NO_CATEGORY,
        "brand": row.brand or None,
        "package_size": row.package_size or None,
        "weight_grams": weight_in_grams(row.package_size),
        "price": {"amount": str(row.unit_price), "currency": "USD"},
    }
