"""Sentences to be spoken by synthetic voices: a small grammar over word lists of our own, in several languages.

What counts is the variety of sounds, not the sense: the lists are chosen so that every consonant and vowel of a
language occurs, with many p, b, m, f, v and w, which are what a viewer reads from the lips.
"""

from __future__ import annotations

import random

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "who": (
            "my brother; the old fisherman; Emma; a young painter; the weather woman; nobody here; our neighbour; the "
            "busy baker; Professor Webb; everyone in the village; a voice on the phone; the boy with the drum"
        ),
        "does": (
            "moves; has forgotten; wants to buy; never looked for; is painting; keeps talking about; will show us; "
            "cannot believe; picked up; should have thrown away; loves; measured; is waiting for"
        ),
        "what": (
            "a purple balloon; five wooden boats; the very first photograph; this heavy jar of honey; those thin "
            "feathers; a map of the mountains; the question; warm apple pie; some fresh bread and butter; her "
            "favourite music; the machine that washes cups; twelve foggy mornings; a yellow umbrella; the shape of "
            "the shadow"
        ),
        "where": (
            "before breakfast; near the bridge; on Wednesday evening; without a word; in the middle of the room; by "
            "the open window; for about an hour; under a broken bench; at the top of the tower; after the show; "
            "because of the storm; again and again"
        ),
        "says": (
            "Well, that's wonderful!; Are you sure?; Maybe, maybe not.; Please come over here.; What a beautiful "
            "morning!; Oh no, not now.; Yes, we both heard it.; Thank you very much.; How far away is it?; I think "
            "so, too."
        ),
    },
    "de": {
        "who": (
            "mein Bruder; die junge Malerin; der alte Bäcker; unsere Nachbarin; Frau Öhlmann; das fröhliche Pferd; "
            "jeder im Dorf; ein Mann mit Mütze; die Möwe; der Physiker"
        ),
        "does": "sucht; bewundert; vergisst immer; braucht; kauft; zeichnet; findet; öffnet; übt; möchte",
        "what": (
            "ein blaues Boot; fünf frische Äpfel; die schönste Brücke; das warme Wasser; einen bunten Vogel; ihre "
            "Lieblingsmusik; den Schlüssel für die Tür; zwölf Bücher über Pflanzen; eine weiche Matratze"
        ),
        "where": (
            "am frühen Morgen; im Wohnzimmer; ohne ein Wort; bei offenem Fenster; über dem Fluss; nach dem Gewitter; "
            "auf dem Bahnhof; zwischen den Bäumen"
        ),
        "says": (
            "Wie bitte?; Das ist wunderbar!; Vielleicht morgen.; Komm bitte mal her.; Ja, genau so.; Oh, wie schön!"
        ),
    },
    "fr": {
        "who": (
            "mon frère; la jeune peintre; le vieux boulanger; notre voisine; un enfant du village; Madame Dubois; "
            "tout le monde; le pêcheur"
        ),
        "does": "cherche; oublie; veut acheter; regarde; trouve; a perdu; dessine; apporte; mange",
        "what": (
            "un bateau bleu; cinq pommes bien mûres; la plus belle montagne; une lampe jaune; du pain frais; sa "
            "musique préférée; un parapluie rouge; beaucoup de feuilles; le bouquet de fleurs"
        ),
        "where": "près du pont; ce matin; sans un mot; dans la cuisine; sous la pluie; avant minuit; au bord du fleuve",
        "says": "Oui, bien sûr.; Ah bon ?; C'est merveilleux !; Peut-être demain.; Viens par ici.; Merci beaucoup.",
    },
    "es": {
        "who": (
            "mi hermano; la joven pintora; el viejo panadero; nuestra vecina; un niño del pueblo; la profesora; todo "
            "el mundo; el pescador"
        ),
        "does": "busca; olvida; quiere comprar; mira; encuentra; ha perdido; dibuja; prefiere; bebe",
        "what": (
            "un barco amarillo; cinco manzanas; la montaña más bonita; una ventana abierta; pan con mantequilla; su "
            "música favorita; un paraguas rojo; muchas hojas; el vaso de agua"
        ),
        "where": "cerca del puente; por la mañana; sin una palabra; en la cocina; bajo la lluvia; junto al fuego",
        "says": "Sí, por supuesto.; ¿De verdad?; ¡Qué maravilla!; Tal vez mañana.; Ven, por favor.; Muchas gracias.",
    },
    "it": {
        "who": (
            "mio fratello; la giovane pittrice; il vecchio fornaio; la nostra vicina; un bambino; il professore; "
            "tutto il paese"
        ),
        "does": "cerca; dimentica; vuole comprare; guarda; trova; ha perso; disegna; preferisce; beve",
        "what": (
            "una barca blu; cinque mele mature; la montagna più bella; una finestra aperta; pane e burro; la sua "
            "musica preferita; un ombrello giallo; molte foglie"
        ),
        "where": "vicino al ponte; di mattina; senza una parola; in cucina; sotto la pioggia; prima di mezzanotte",
        "says": "Sì, va bene.; Davvero?; Che meraviglia!; Forse domani.; Vieni qui, per favore.; Grazie mille.",
    },
    "pt": {
        "who": "o meu irmão; a jovem pintora; o velho padeiro; a nossa vizinha; um menino; a professora; toda a gente",
        "does": "procura; esquece; quer comprar; olha para; encontra; perdeu; desenha; prefere; bebe",
        "what": (
            "um barco azul; cinco maçãs; a montanha mais bonita; uma janela aberta; pão com manteiga; a sua música "
            "favorita; um chapéu amarelo; muitas folhas"
        ),
        "where": "perto da ponte; de manhã; sem uma palavra; na cozinha; debaixo da chuva; antes da meia-noite",
        "says": "Sim, está bem.; É mesmo?; Que maravilha!; Talvez amanhã.; Vem cá, por favor.; Muito obrigado.",
    },
    "nl": {
        "who": "mijn broer; de jonge schilderes; de oude bakker; onze buurvrouw; een kind uit het dorp; iedereen",
        "does": "zoekt; vergeet; koopt; bekijkt; vindt; tekent; opent; drinkt; verwacht",
        "what": (
            "een blauwe boot; vijf rijpe appels; de mooiste berg; een open venster; brood met boter; haar "
            "lievelingsmuziek; een gele paraplu; veel bladeren"
        ),
        "where": "bij de brug; in de ochtend; zonder een woord; in de keuken; na het onweer; voor middernacht",
        "says": "Ja, natuurlijk.; Echt waar?; Wat mooi!; Misschien morgen.; Kom eens hier.; Heel erg bedankt.",
    },
    "pl": {
        "who": "mój brat; młoda malarka; stary piekarz; nasza sąsiadka; chłopiec ze wsi; pani profesor",
        "does": "szuka; zapomina; chce kupić; widzi; znajduje; rysuje; maluje; pije",
        "what": (
            "niebieska łódka; pięć jabłek; wysoka góra; otwarte okno; chleb z masłem; ulubiona muzyka; żółty parasol; "
            "bardzo dużo liści"
        ),
        "where": "koło mostu; wczesnym rankiem; bez słowa; w kuchni; po burzy; przed północą",
        "says": "Tak, oczywiście.; Naprawdę?; Jak pięknie!; Może jutro.; Chodź tutaj, proszę.; Bardzo dziękuję.",
    },
    "sv": {
        "who": "min bror; den unga målaren; den gamle bagaren; vår granne; en pojke från byn; alla här",
        "does": "söker; glömmer; vill köpa; ser; hittar; ritar; öppnar; dricker; väntar på",
        "what": (
            "en blå båt; fem mogna äpplen; det vackraste berget; ett öppet fönster; bröd med smör; sin favoritmusik; "
            "ett gult paraply; många löv"
        ),
        "where": "vid bron; på morgonen; utan ett ord; i köket; efter åskan; före midnatt",
        "says": "Ja, visst.; Verkligen?; Så vackert!; Kanske i morgon.; Kom hit, är du snäll.; Tack så mycket.",
    },
    "cs": {
        "who": "můj bratr; mladá malířka; starý pekař; naše sousedka; chlapec z vesnice; paní učitelka; veselý kůň",
        "does": "hledá; zapomíná; chce koupit; vidí; nachází; kreslí; maluje; pije; miluje",
        "what": (
            "modrou loďku; pět zralých jablek; vysokou horu; otevřené okno; chléb s máslem; oblíbenou hudbu; žlutý "
            "deštník; mnoho listů; červený kabát"
        ),
        "where": "u mostu; brzy ráno; beze slova; v kuchyni; po bouřce; před půlnocí; pod stromem",
        "says": "Ano, samozřejmě.; Opravdu?; To je nádhera!; Možná zítra.; Pojď sem, prosím.; Mockrát děkuji.",
    },
    "ca": {
        "who": "el meu germà; la jove pintora; el vell forner; la nostra veïna; un nen del poble; tothom",
        "does": "busca; oblida; vol comprar; mira; troba; ha perdut; dibuixa; prefereix; beu",
        "what": (
            "una barca blava; cinc pomes; la muntanya més bonica; una finestra oberta; pa amb mantega; la seva música "
            "preferida; un paraigua groc; moltes fulles; xocolata"
        ),
        "where": "prop del pont; de bon matí; sense dir res; a la cuina; sota la pluja; abans de mitjanit",
        "says": "Sí, és clar.; De veritat?; Quina meravella!; Potser demà.; Vine, si us plau.; Moltes gràcies.",
    },
    "fi": {
        "who": "minun veljeni; nuori maalari; vanha leipuri; naapurimme; pieni poika; koko kylä",
        "does": "etsii; unohtaa; haluaa ostaa; katsoo; löytää; piirtää; avaa; juo",
        "what": (
            "sinisen veneen; viisi omenaa; kauniin vuoren; avoimen ikkunan; leipää ja voita; hyvää musiikkia; "
            "keltaisen sateenvarjon; paljon lehtiä; upean filmin"
        ),
        "where": "sillan vieressä; aamulla; ilman sanoja; keittiössä; ukkosen jälkeen; ennen puoltayötä",
        "says": "Kyllä, tietysti.; Niinkö?; Onpa kaunista!; Ehkä huomenna.; Tule tänne.; Paljon kiitoksia.",
    },
    "hu": {
        "who": (
            "a bátyám; az öreg halász; a fiatal festőnő; a szomszédunk; egy kisfiú; a tanárnő; mindenki a faluban; a "
            "vidám pék; a győri fűszeres"
        ),
        "does": "keresi; elfelejti; meg akarja venni; látja; megtalálja; lerajzolja; kinyitja; issza; szereti; őrzi",
        "what": (
            "a kék csónakot; az öt érett almát; a legszebb hegyet; a nyitott ablakot; a vajas kenyeret; a kedvenc "
            "zenéjét; a sárga esernyőt; a hűvös forrásvizet; a zöld függönyt; a sok falevelet; a mély tó tükrét"
        ),
        "where": "a hídnál; kora reggel; szó nélkül; a konyhában; eső után; éjfél előtt; a fűzfa alatt; itt és ott",
        "says": "Igen, persze.; Tényleg?; De gyönyörű!; Talán holnap.; Gyere ide, kérlek.; Köszönöm szépen.",
    },
    "tr": {
        "who": "kardeşim; yaşlı balıkçı; genç ressam; komşumuz; köydeki çocuk; müzik öğretmeni; herkes; büyük annem",
        "does": "bugün; her zaman; yavaşça; yine; şimdi; sabahleyin; belki; hiç durmadan",
        "what": (
            "mavi bir kayık; beş olgun elma; yüksek dağı; açık pencereyi; ekmekle tereyağı; en sevdiği müziği; sarı "
            "şemsiyeyi; bir bardak suyu; büyük köprüyü; gümüş yüzüğü; ıslak yaprakları; vişneli pastayı"
        ),
        "where": (
            "köprünün yanında görüyor; mutfakta unuttu; yağmurda arıyor; evde buldu; pazardan alıyor; bana veriyor; "
            "çok seviyor"
        ),
        "says": "Evet, tabii.; Gerçekten mi?; Ne kadar güzel!; Belki yarın.; Buraya gel, lütfen.; Çok teşekkür ederim.",
    },
    "ru": {
        "who": (
            "мой брат; старый рыбак; молодая художница; наша соседка; мальчик с барабаном; каждый в деревне; Павел "
            "Петрович; эта женщина; учитель музыки; толстый повар"
        ),
        "does": "купил; забыл; ищет; рисует; хочет увидеть; потерял; любит; приносит; моет; выбирает",
        "what": (
            "большую белую лодку; пять яблок; высокую башню; тёплый хлеб с маслом; жёлтый зонтик; фотографию моря; "
            "вкусный пирог; шумный поезд; чашку чая; двенадцать писем; фиолетовый шарф; её любимую песню"
        ),
        "where": (
            "около моста; рано утром; без единого слова; у открытого окна; под дождём; в пятницу вечером; после бури; "
            "на берегу реки; между деревьями"
        ),
        "says": "Да, конечно.; Как хорошо!; Может быть, завтра.; Большое спасибо.; Подожди, пожалуйста.; Вы уверены?",
    },
    "hi": {
        "who": "मेरा भाई; बूढ़ा मछुआरा; हमारी पड़ोसन; गाँव का बच्चा; वह औरत; मेरे पिता; एक चित्रकार; मोहन",
        "does": "आज; हमेशा; कभी कभी; बहुत जल्दी; धीरे धीरे; फिर से; अभी",
        "what": (
            "एक बड़ी नाव; पाँच मीठे आम; पीला फूल; गरम रोटी; पुरानी किताब; ठंडा पानी; सुबह का अखबार; चाय का प्याला; नीली छतरी"
        ),
        "where": (
            "पुल के पास देखता है; बाज़ार में खरीदता है; खिड़की पर रखता है; घर में भूल गया; बारिश में ढूँढता है; मुझे देता है; सबको दिखाता है"
        ),
        "says": "बहुत धन्यवाद.; हाँ, बिलकुल.; यह बहुत सुन्दर है.; आप कैसे हैं?; शायद कल.",
    },
    "et": {
        "who": "minu vend; vana kalur; noor maalikunstnik; meie naabrinaine; väike poiss; terve küla; õpetaja; pagar",
        "does": "otsib; unustab; tahab osta; vaatab; leiab; joonistab; avab; joob; armastab; kannab",
        "what": (
            "sinist paati; viit õuna; kõrget mäge; lahtist akent; leiba ja võid; ilusat muusikat; kollast "
            "vihmavarju; palju lehti; sooja suppi; vaba maad; tasast saart; külma jäätist"
        ),
        "where": "silla juures; varahommikul; ilma sõnata; köögis; pärast äikest; enne keskööd; puu all; rannas",
        "says": "Jah, muidugi.; Kas tõesti?; Kui ilus!; Võib-olla homme.; Tule siia, palun.; Suur tänu.",
    },
    "lv": {
        "who": "mans brālis; vecais zvejnieks; jaunā māksliniece; mūsu kaimiņiene; mazs zēns; viss ciems; maiznieks",
        "does": "meklē; aizmirst; grib pirkt; redz; atrod; zīmē; atver; dzer; mīl; nes",
        "what": (
            "zilu laivu; piecus ābolus; augstu kalnu; atvērtu logu; maizi ar sviestu; skaistu mūziku; dzeltenu "
            "lietussargu; daudz lapu; baltu pūku; garšīgu pīrāgu"
        ),
        "where": "pie tilta; agri no rīta; bez vārda; virtuvē; pēc lietus; pirms pusnakts; zem koka",
        "says": "Jā, protams.; Tiešām?; Cik skaisti!; Varbūt rīt.; Nāc šurp, lūdzu.; Liels paldies.",
    },
    "ro": {
        "who": "fratele meu; bătrânul pescar; tânăra pictoriță; vecina noastră; un copil din sat; brutarul; fiecare om",
        "does": "caută; uită; vrea să cumpere; vede; găsește; a pierdut; desenează; preferă; bea; iubește",
        "what": (
            "o barcă albastră; cinci mere; cel mai frumos munte; fereastra deschisă; pâine cu unt; muzica preferată; "
            "o umbrelă galbenă; multe frunze; mâncarea caldă; apa rece"
        ),
        "where": "lângă pod; dis-de-dimineață; fără un cuvânt; în bucătărie; după ploaie; înainte de miezul nopții",
        "says": "Da, desigur.; Adevărat?; Ce minunat!; Poate mâine.; Vino aici, te rog.; Mulțumesc foarte mult.",
    },
    "hr": {
        "who": "moj brat; stari ribar; mlada slikarica; naša susjeda; dječak iz sela; pekar; svatko od nas; učitelj",
        "does": "traži; zaboravlja; želi kupiti; vidi; nalazi; crta; otvara; pije; voli; nosi",
        "what": (
            "plavi čamac; pet jabuka; visoku planinu; otvoren prozor; kruh s maslacem; lijepu glazbu; žuti kišobran; "
            "mnogo lišća; topao kolač; svježu vodu; fini bijeli papir"
        ),
        "where": "kraj mosta; rano ujutro; bez riječi; u kuhinji; poslije oluje; prije ponoći; pod drvetom",
        "says": "Da, naravno.; Stvarno?; Kako lijepo!; Možda sutra.; Dođi ovamo, molim te.; Puno hvala.",
    },
    "el": {
        "who": "ο αδελφός μου; ο γέρος ψαράς; η νέα ζωγράφος; η γειτόνισσά μας; ένα παιδί; όλο το χωριό; ο φούρναρης",
        "does": "ψάχνει; ξεχνάει; θέλει να αγοράσει; βλέπει; βρίσκει; έχασε; ζωγραφίζει; πίνει; αγαπάει",
        "what": (
            "μια γαλάζια βάρκα; πέντε μήλα; το πιο ψηλό βουνό; το ανοιχτό παράθυρο; ψωμί με βούτυρο; όμορφη μουσική; "
            "μια κίτρινη ομπρέλα; πολλά φύλλα; καλό φαγητό"
        ),
        "where": "κοντά στη γέφυρα; νωρίς το πρωί; χωρίς λέξη; στην κουζίνα; μετά τη βροχή; πριν τα μεσάνυχτα",
        "says": "Ναι, βέβαια.; Αλήθεια;; Τι όμορφα!; Ίσως αύριο.; Έλα εδώ, παρακαλώ.; Ευχαριστώ πολύ.",
    },
    "id": {
        "who": "kakak saya; nelayan tua; pelukis muda; tetangga kami; anak kecil; semua orang; ibu guru; tukang roti",
        "does": "mencari; melupakan; mau membeli; melihat; menemukan; menggambar; membuka; minum; membawa; punya",
        "what": (
            "perahu biru; lima apel; gunung yang tinggi; jendela terbuka; roti dengan mentega; musik yang bagus; "
            "payung kuning; banyak daun; air panas; sebuah foto lama"
        ),
        "where": "dekat jembatan; pagi sekali; tanpa kata; di dapur; sesudah hujan; sebelum malam; di bawah pohon",
        "says": "Ya, tentu saja.; Benarkah?; Bagus sekali!; Mungkin besok.; Mari ke sini.; Terima kasih banyak.",
    },
    "sw": {
        "who": "kaka yangu; mvuvi mzee; mchoraji kijana; jirani yetu; mtoto mdogo; kijiji kizima; mwalimu; mama",
        "does": "anatafuta; anasahau; anataka kununua; anaona; amepata; anachora; anafungua; anakunywa; anapenda",
        "what": (
            "mashua ya bluu; matofaa matano; mlima mrefu; dirisha lililo wazi; mkate na siagi; muziki mzuri; "
            "mwavuli wa manjano; majani mengi; maji baridi; chakula cha mchana"
        ),
        "where": "karibu na daraja; asubuhi mapema; bila neno; jikoni; baada ya mvua; kabla ya usiku; chini ya mti",
        "says": "Ndiyo, bila shaka.; Kweli?; Vizuri sana!; Labda kesho.; Njoo hapa, tafadhali.; Asante sana.",
    },
    "eo": {
        "who": "mia frato; la maljuna fiŝisto; juna pentristino; nia najbarino; malgranda knabo; la tuta vilaĝo",
        "does": "serĉas; forgesas; volas aĉeti; vidas; trovas; desegnas; malfermas; trinkas; amas; portas",
        "what": (
            "bluan boaton; kvin pomojn; altan monton; la fenestron; panon kun butero; belan muzikon; flavan "
            "pluvombrelon; multajn foliojn; varman supon"
        ),
        "where": "apud la ponto; frue matene; sen vorto; en la kuirejo; post la pluvo; antaŭ noktomezo; sub arbo",
        "says": "Jes, kompreneble.; Ĉu vere?; Kiel bele!; Eble morgaŭ.; Venu ĉi tien, mi petas.; Multan dankon.",
    },
}
"""By language: who does what where, and short phrases that stand alone; separated by semicolons."""

LANGUAGES = tuple(WORDS)
_OTHER_LETTERS = ("ru", "hi", "el")  # whose voices cannot read words in Latin letters

_ONSETS = (*"b p m f v w s t d l n k g r h sh ch j br pl fl st sp".split(), "")
_NUCLEI = ("a", "e", "i", "o", "u", "oo", "ee", "ai", "ow", "ar")
_CODAS = ("", "", "", "m", "n", "p", "b", "f", "l", "s", "t", "k")


def sentence(choose: random.Random, language: str = "en") -> str:
    """One sentence in `language` (a key of `WORDS`), drawn with `choose`; now and then a few invented words, as names
    are."""
    words = {part: text.split("; ") for part, text in WORDS[language].items()}
    kind = choose.random()
    if kind < 0.12:
        return choose.choice(words["says"])
    if kind < 0.22 and language not in _OTHER_LETTERS:
        return " ".join(_invented(choose) for _ in range(choose.randint(2, 5))) + "."
    parts = [choose.choice(words["who"]), choose.choice(words["does"]), choose.choice(words["what"])]
    if choose.random() < 0.7:
        parts.append(choose.choice(words["where"]))
    if choose.random() < 0.2:
        parts.insert(0, choose.choice(words["says"]))
    return " ".join(parts) + choose.choice((".", ".", ".", "?", "!"))


def _invented(choose: random.Random) -> str:
    return "".join(
        choose.choice(_ONSETS) + choose.choice(_NUCLEI) + choose.choice(_CODAS) for _ in range(choose.randint(1, 3))
    )
