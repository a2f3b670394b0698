"""What is on in the demo houses?

Fifty evenings in the theatres and one night in the arena, made up from the first name to the last. Hours are of the clock on
the wall of the house.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from contracts.ids import EventId
from ops.demo_houses import ARENA, HOUSE_BY_NAME, House, id_of

_AURORA, _NORD, _FOUNDRY, _PASTEUR, _VILNIUS = (
    *("Teatro Aurora", "Kulturhalle Nord", "The Foundry", "Salle Pasteur", "Vilnius Concert House"),
)


@dataclass(frozen=True)
class Show:
    """An event as we make it up; days and minutes count from the first seeding, `begins` is by the venue's own clock."""

    name: str
    artist: str
    category: str
    description: str
    house: House
    begins: time
    days_until_show: int
    minutes_until_sale: int
    high_demand: bool = False

    @property
    def id(self) -> EventId:
        return EventId(id_of("event", self.name))

    def begins_at(self, seeded_at: datetime) -> datetime:
        """The day counts from the day it is at the venue; a night on which the clocks change has its own hours, too."""
        zone = ZoneInfo(self.house.time_zone)
        day = seeded_at.astimezone(zone).date() + timedelta(days=self.days_until_show)
        return datetime.combine(day, self.begins, zone).astimezone(UTC)


# (category, artist, what the evening is called, where, when it begins, what to expect)
_PROGRAMME = (
    (
        *("rock", "The Paper Lanterns", "Night Ferry Tour", _FOUNDRY, "20:00"),
        "Four friends from a harbour town play the songs they wrote on the last boat home. Come early: the horn section of"
        " their second record opens the evening on its own.",
    ),
    (
        *("rock", "Velvet Static", "Louder Than Rain", _FOUNDRY, "20:00"),
        "Three guitars, no keyboards and a drummer who breaks a cymbal a night. Earplugs are handed out at the door, and they"
        " are not a joke.",
    ),
    (
        *("rock", "Marrow & Pine", "Ten Years of Marrow", _NORD, "20:00"),
        "The debut album from beginning to end, with the string quartet that could not be paid for at the time. The second"
        " half belongs to whatever the hall asks for.",
    ),
    (
        *("rock", "Glasshouse Effect", "Greenhouse Tour", _VILNIUS, "19:30"),
        "A band that tours by train, with a stage set grown from seed in every town. The new songs are slower and the old"
        " ones faster than you remember.",
    ),
    (
        *("rock", "Rusted Halos", "Farewell Tour", _FOUNDRY, "20:00"),
        "Thirty-one years, nine drummers and one last evening in the city where it began. They say they mean it this time.",
    ),
    (
        *("pop", "Mina Solberg", "Northern Lights", _NORD, "20:00"),
        "Songs for voice and synthesizer, written during one long polar night. The light show runs on the power of an"
        " audience that is asked to dance.",
    ),
    (
        *("pop", "Cassia", "Honey & Salt", _AURORA, "21:00"),
        "A voice that made its name in fado bars sings its first album of pop. Two guitarists from the old neighbourhood"
        " keep it honest.",
    ),
    (
        *("pop", "Juno Park", "Seoul to Soul", _FOUNDRY, "20:00"),
        "The only European night of a tour that sold out two stadiums in a morning. Twelve dancers, a live band, and a floor"
        " that is standing only.",
    ),
    (
        *("pop", "The Weekday Kids", "Saturday at Last", _FOUNDRY, "19:00"),
        "Five singers who met in detention and still finish each other's choruses. There is no support act, because they"
        " have too many songs.",
    ),
    (
        *("pop", "Elio Marchetti", "Cartoline", _PASTEUR, "20:30"),
        "Postcards set to music, from a songwriter who writes one in every city he plays. The one about Lyon will be read"
        " for the first time tonight.",
    ),
    (
        *("electronic", "Komorebi", "Forest of Wires", _NORD, "21:00"),
        "Field recordings from cedar woods meet a wall of modular synthesizers. Eyes are best kept closed, and mobile phones"
        " in the bag.",
    ),
    (
        *("electronic", "Deep Tariff", "Customs Union", _FOUNDRY, "22:00"),
        "A duo of former border officials who sample the stamps they no longer use. The set runs until two in the morning"
        " without a pause.",
    ),
    (
        *("electronic", "Anja K", "Modular Mass", _VILNIUS, "20:00"),
        "A Latin mass for choir and patch cables, written for halls with a long echo. The score is projected, so that"
        " everybody can get lost together.",
    ),
    (
        *("jazz", "Ruben Alvarado Quintet", "Blue Siesta", _AURORA, "21:30"),
        "Hard bop at the pace of a hot afternoon, led from the double bass. The second set is always decided during the"
        " interval.",
    ),
    (
        *("jazz", "Odile Mbaye", "Dakar Standards", _PASTEUR, "20:30"),
        "American songs as they were sung in the hotels of Dakar in the sixties. Her grandfather's trumpet is on stage, and"
        " it is not there for decoration.",
    ),
    (
        *("jazz", "Harbour Big Band", "Swing into Spring", _NORD, "19:30"),
        "Seventeen players, two singers and arrangements rescued from a flooded cellar. Dancing in the side aisles is"
        " allowed after the interval.",
    ),
    (
        *("jazz", "Tomasz Wrona Trio", "Slow Rivers", _VILNIUS, "19:00"),
        "Piano, bass and brushes follow the Neris from its spring to the Baltic. The concert lasts exactly as long as the"
        " recording of the water it is built on.",
    ),
    (
        *("folk", "Ailsa Drummond", "Songs from the Ferry", _VILNIUS, "19:00"),
        "Ballads learned between the islands, with fiddle, harp and a great deal of weather. She tells the story before each"
        " song, and it is never quite the same one.",
    ),
    (
        *("folk", "The Hollow Reeds", "Low Country", _AURORA, "21:00"),
        "Close harmonies over banjo and pump organ, from a family that has sung together for three generations. The youngest"
        " is eleven and takes the solos.",
    ),
    (
        *("folk", "Saltmarsh", "Tide Tables", _FOUNDRY, "19:30"),
        "Shanties for people who have never been to sea, sung by four who have. There will be stamping, so the floor has"
        " been inspected.",
    ),
    (
        *("classical", "Camerata Lisboa", "The Four Seasons", _AURORA, "19:30"),
        "Vivaldi on gut strings, with the sonnets read between the concertos. Each season is led by another soloist from the"
        " orchestra.",
    ),
    (
        *("classical", "Orchestre des Deux Rives", "Ravel & Debussy", _PASTEUR, "20:00"),
        "La mer, Ma mère l'Oye and both piano concertos in one generous evening. The conductor introduces each work in five"
        " minutes and no more.",
    ),
    (
        *("classical", "Vilnius Chamber Choir", "All-Night Vigil", _VILNIUS, "19:00"),
        "Rachmaninov's vespers, sung from memory and by candlelight. There is no interval, and no applause until the last"
        " bell has faded.",
    ),
    (
        *("classical", "Klara Weiss", "Goldberg Variations", _NORD, "20:00"),
        "Bach's thirty variations with every repeat, on a harpsichord copied from one in this city's museum. It is tuned on"
        " stage, and you are welcome to watch.",
    ),
    (
        *("classical", "Quartetto Borea", "Late Beethoven", _VILNIUS, "19:00"),
        "The quartets opus 131 and 132, and a short new work that quotes neither. The musicians play standing, as they have"
        " since their first concert.",
    ),
    (
        *("classical", "Northern Sinfonietta", "Sibelius by Candlelight", _VILNIUS, "19:30"),
        "The Swan of Tuonela, the violin concerto and the fifth symphony, lit by four hundred candles. Bring a warm coat:"
        " the heating is too loud for the swan.",
    ),
    (
        *("opera", "Kammeroper Nord", "The Magic Flute", _NORD, "19:30"),
        "Mozart with eleven singers, nine players and one very large snake. Sung in German with German and English surtitles.",
    ),
    (
        *("opera", "Compagnie du Rhône", "Carmen", _PASTEUR, "20:00"),
        "Bizet's score with spoken dialogue, as it was first heard and first misunderstood. The chorus is made up of tobacco"
        " workers' grandchildren.",
    ),
    (
        *("opera", "Teatro Aurora Ensemble", "La Traviata", _AURORA, "20:00"),
        "The house ensemble opens its season with Verdi, in costumes found in its own attic. Sung in Italian with Portuguese"
        " surtitles.",
    ),
    (
        *("theatre", "The Foundry Players", "A Midsummer Night's Dream", _FOUNDRY, "19:30"),
        "Shakespeare in the round: on the floor you stand among the fairies, on the balcony you may sit and laugh at those"
        " who do. Three hours, with one interval and a bar in the wood.",
    ),
    (
        *("theatre", "Théâtre de la Passerelle", "Le Malade imaginaire", _PASTEUR, "20:00"),
        "Molière's last comedy with all of its ballets, danced by the doctors themselves. In French, with English surtitles"
        " on Thursdays.",
    ),
    (
        *("theatre", "Company Sixpence", "An Inspector Calls", _AURORA, "20:30"),
        "A dinner party, a knock at the door, and a house that comes apart with its owners. In English, with Portuguese"
        " surtitles.",
    ),
    (
        *("theatre", "Ensemble Backstein", "Faust, Part One", _NORD, "19:00"),
        "Goethe with four actors, one table and a poodle from the local shelter. Four hours that feel like a bargain.",
    ),
    (
        *("theatre", "Blackbox Vilnius", "Three Sisters", _VILNIUS, "18:30"),
        "Chekhov in a waiting room where no train to Moscow is ever announced. In Lithuanian, with English surtitles.",
    ),
    (
        *("comedy", "Priya Raman", "Mostly Apologies", _FOUNDRY, "20:00"),
        "An hour of things she should not have said, in the order in which she said them. Latecomers become part of the show.",
    ),
    (
        *("comedy", "Owen Tudge", "Reasonable Doubt", _FOUNDRY, "20:00"),
        "A barrister who lost every case explains why it was never his fault. The jury is drawn from the front of the floor.",
    ),
    (
        *("comedy", "Zoé Lambert", "Presque normale", _PASTEUR, "20:30"),
        "Family, flat-sharing and the French tax office, told without drawing breath. In French, and suitable for your"
        " mother if not for hers.",
    ),
    (
        *("comedy", "Improv on Tap", "You Choose, We Panic", _VILNIUS, "19:00"),
        "Six comedians, no script, and a hat full of whatever you wrote down at the door. In English; no two evenings have"
        " ever been alike.",
    ),
    (
        *("comedy", "Hannes Brodersen", "Dienstag ist Ruhetag", _NORD, "20:00"),
        "Nine courses from the kitchen of a restaurant that never had guests. In Plattdeutsch where it hurts, and in German"
        " where it does not.",
    ),
    (
        *("dance", "Ballet Atlântico", "Swan Lake", _AURORA, "19:30"),
        "The classic in four acts, with the lake moved to the Tagus estuary. The orchestra plays from the boxes, because the"
        " swans need the pit.",
    ),
    (
        *("dance", "Kinetic Theory", "Loops and Ladders", _PASTEUR, "20:30"),
        "Nine dancers on a set of moving ladders, to a score for typewriters. Seventy minutes without an interval.",
    ),
    (
        *("dance", "Compañía Duende", "Noche flamenca", _AURORA, "21:30"),
        "Two dancers, two singers, two guitars and a wooden floor brought from Jerez. What happens after midnight is not in"
        " the programme.",
    ),
    (
        *("family", "The Button Circus", "Up and Over", _NORD, "15:00"),
        "Acrobats, jugglers and a clown who is afraid of heights. For everybody from four years on, and for those who carry"
        " them.",
    ),
    (
        *("family", "Professor Fizz", "The Loudest Science Show", _VILNIUS, "11:00"),
        "Bangs, bubbles and one controlled explosion, each of them explained afterwards. Ear protection for small heads is"
        " at the door.",
    ),
    (
        *("family", "Puppet Wharf", "The Snow Queen", _AURORA, "16:00"),
        "Andersen's tale with forty puppets and real snow in the second act. From six years on; about ninety minutes with an"
        " interval.",
    ),
    (
        *("hip-hop", "Kwame Verse", "Notes to Self", _FOUNDRY, "20:30"),
        "Verses from ten years of notebooks, with the band that played on none of the records. The cypher afterwards is open"
        " to all who dare.",
    ),
    (
        *("hip-hop", "Lady Algorithm", "Sorted", _PASTEUR, "21:00"),
        "Rhymes in constant time, over beats she programs while she raps. Questions from the audience are answered in the"
        " encore.",
    ),
    (
        *("hip-hop", "Bloc Nord", "Hafenklang", _NORD, "20:30"),
        "Eight voices from both sides of the river, and a crane driver on the turntables. Recorded live, so shout your best.",
    ),
    (
        *("world", "Tinariya Collective", "Desert Radio", _PASTEUR, "20:30"),
        "Guitars, handclaps and news from the Sahara, as it was broadcast from the back of a lorry. The tea on stage is"
        " poured three times, as it should be.",
    ),
    (
        *("world", "Samba de Quarta", "Carnaval Tardio", _AURORA, "21:00"),
        "A midweek samba circle that has outgrown four bars, with thirty drummers and no stage fright. Costumes are welcome"
        " and feathers are provided.",
    ),
)

# When sales open, show after show: most are open, the others open within the hour, tomorrow, next week and next month.
_MINUTES_UNTIL_SALE = (-2880, -1440, -1440, -60, -60, -5, 30, 24 * 60, 7 * 24 * 60, 30 * 24 * 60)
_HIGH_DEMAND = "Juno Park"
# Its waiting room gathers people from the first minute, and one who tries it out need not wait long for the draw.
_MINUTES_UNTIL_DRAW = 3


def shows() -> Iterator[Show]:
    """Fifty shows in the theatres and one night in the arena."""
    for number, (category, artist, title, house_name, begins, description) in enumerate(_PROGRAMME):
        yield Show(
            name=f"{artist}: {title}",
            artist=artist,
            category=category,
            description=description,
            house=HOUSE_BY_NAME[house_name],
            begins=time.fromisoformat(begins),
            days_until_show=45 + 3 * number,
            minutes_until_sale=(
                _MINUTES_UNTIL_DRAW
                if artist == _HIGH_DEMAND
                else _MINUTES_UNTIL_SALE[number % len(_MINUTES_UNTIL_SALE)]
            ),
            high_demand=artist == _HIGH_DEMAND,
        )
    yield Show(
        name="The Paper Lanterns: One Night in the Arena",
        artist="The Paper Lanterns",
        category="rock",
        description="The ferry docks for one night in the biggest hall of the coast, with a choir of four hundred from the"
        " harbour. Stand on the floor for the singing, or take a block above it for the view.",
        house=HOUSE_BY_NAME[ARENA],
        begins=time(20, 0),
        days_until_show=60,
        minutes_until_sale=-60,
    )
