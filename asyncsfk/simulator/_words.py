"""The vocabulary of the simulated shops."""

from typing import Final, NamedTuple


class Currency(NamedTuple):
    """How prices look in one region."""

    code: str
    symbol: str
    per_dollar: float
    decimals: int


_EURO: Final = Currency("EUR", "€", 0.92, 2)

#: What each region pays with; the first sixteen are those that the reviews route knows.
CURRENCIES: Final = {
    "US": Currency("USD", "$", 1.0, 2),
    "GB": Currency("GBP", "£", 0.79, 2),
    "DE": _EURO,
    "FR": _EURO,
    "IT": _EURO,
    "ID": Currency("IDR", "Rp", 16_000, 0),
    "MY": Currency("MYR", "RM", 4.4, 2),
    "MX": Currency("MXN", "$", 18.2, 2),
    "PH": Currency("PHP", "₱", 57.0, 2),
    "SG": Currency("SGD", "S$", 1.35, 2),
    "ES": _EURO,
    "TH": Currency("THB", "฿", 35.0, 2),
    "VN": Currency("VND", "₫", 25_400, 0),
    "BR": Currency("BRL", "R$", 5.4, 2),
    "JP": Currency("JPY", "¥", 150, 0),
    "IE": _EURO,
    "IL": Currency("ILS", "₪", 3.7, 2),
    "KW": Currency("KWD", "د.ك", 0.31, 3),
    "SA": Currency("SAR", "ر.س", 3.75, 2),
}

#: The regions of the reviews route.
REVIEW_REGIONS: Final = tuple(CURRENCIES)[:16]

#: Where creators live, weighted.
HOMES: Final = ("US",) * 10 + tuple(CURRENCIES)

ADJECTIVES: Final = (
    "amber", "bold", "calm", "daily", "easy", "fancy", "glow", "happy", "indie", "jolly", "kind",
    "lucky", "mellow", "neon", "olive", "plush", "quiet", "rosy", "sunny", "tiny", "urban", "vivid",
    "warm", "young", "zesty",
)  # fmt: skip

NOUNS: Final = (
    "attic", "beauty", "closet", "deals", "eats", "finds", "gear", "home", "ideas", "jewels",
    "kitchen", "looks", "market", "nails", "outfits", "picks", "reviews", "shop", "style", "tech",
    "vault", "wardrobe", "yarn",
)  # fmt: skip

#: Titles as shops write them: plain, punctuated, emoji, right to left, other scripts, odd spaces.
TITLES: Final = (
    "Portable Mini Blender for Shakes and Smoothies, USB-C Rechargeable",
    "Wireless Earbuds with Charging Case",
    "Women's High-Waist Leggings (2-Pack) | Squat Proof",
    "LED Strip Lights 50 ft, App & Remote Control",
    "Stainless Steel Water Bottle 32oz — Leak-Proof",
    'The 6" Cast Iron "Forever" Skillet',
    "Magnetic Phone Mount <Dashboard & Vent>",
    "Vitamin C Serum w/ Hyaluronic Acid 30ml",
    "Dog Chew Toy\\Rope\tBundle",
    "Kids' Dinosaur Puzzle, 100 pcs\nAges 4+",
    "✨ VIRAL ✨ Lip Gloss Set 💄💋 (6 pcs)",
    "🔥🔥 Hair Dryer Brush 👩🏽\u200d🦰 4-in-1 🇺🇸",
    "Gua Sha 🧖\u200d♀️ & Jade Roller",
    "عباية نسائية أنيقة بأكمام واسعة",
    "سماعات بلوتوث لاسلكية 🎧 مقاومة للماء",
    "שרשרת כסף 925 עם תליון לב",
    "\u202bطقم أكواب قهوة\u202c (Set of 6)",
    "韓国コスメ クッションファンデーション 15g",
    "便携式小风扇 USB充电 静音",
    "무선 미니 가습기",
    "เสื้อยืดผู้หญิง โอเวอร์ไซส์",
    "Wasserdichter Rucksack für Männer – Größe L",  # noqa: RUF001 - as people write
    "Crème hydratante à l'aloès, peaux sèches",
    "Camiseta de algodón orgánico (niña)",
    "Kem chống nắng phổ rộng SPF50+",
    "Cafe\u0301 moulu &amp; capsules",
    "Zero\u200bWidth Sticker Pack",
    "",
)

#: Words said in reviews.
REVIEW_TEXTS: Final = (
    "Love it, bought two more.",
    "Arrived broken :( seller answered fast though",
    "as described",
    "10/10 💯💯",
    "Muy buena calidad, lo recomiendo",
    "جودة ممتازة",
    "サイズが少し小さいです。",
    "It's fine.\nShipping took 3 weeks.",
    "",
)

VARIANTS: Final = ("Black", "Rosa, XL", "2 Pack", "أسود", "30 ml", "Color: Blue / Size: M")

#: Picture and profile hosts.
CDN: Final = "https://p16-sim.example-cdn.test/tos-useast5-i"
