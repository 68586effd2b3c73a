"""What stands on the page of the report beside the findings, in every language of reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class PageWords:
    """Headings and fixed sentences of one language; in braces stands what is filled in.

    Attributes:
        sexes: Patient's Sex (0010,0040) -> word.
        modalities: what was examined, by Modality (0008,0060).
        fractured, one_fractured, unbroken: the headline.
        how_to_read: what a grade is, for those who do not know it.
        grades: names of the grades 0 to 3, and of what has none.
    """

    title: str
    research_use: str
    name: str
    birth_date: str
    sex: str
    sexes: Mapping[str, str]
    patient_id: str
    accession: str
    study_date: str
    examined: str
    modalities: Mapping[str, str]
    images: str
    one_image: str
    impression: str
    fractured: str
    one_fractured: str
    malignant: str
    unbroken: str
    nothing: str
    refused: str
    picture: str
    table: str
    level: str
    finding: str
    grade: str
    loss: str
    heights: str
    rest: str
    not_judged: str
    remarks: str
    how_to_read: str
    grades: tuple[str, str, str, str, str]
    disclaimer: str
    made_by: str


ENGLISH: Final = PageWords(
    title="Vertebral bodies: reading by artificial intelligence",
    research_use="FOR RESEARCH USE ONLY",
    name="Patient",
    birth_date="Date of birth",
    sex="Sex",
    sexes={"F": "female", "M": "male", "O": "other"},
    patient_id="Patient ID",
    accession="Accession number",
    study_date="Date of examination",
    examined="Examined",
    modalities={"CT": "Computed tomography", "MR": "Magnetic resonance imaging", "": "Radiograph"},
    images="{count} images",
    one_image="1 image",
    impression="Impression",
    fractured="Vertebrae that look fractured: {levels}.",
    one_fractured="One vertebra looks fractured: {levels}.",
    malignant="May hold a tumour and should be looked at first: {levels}.",
    unbroken="No vertebra looks fractured.",
    nothing="No vertebra was found in the images.",
    refused="The images could not be analysed.",
    picture="Outlined: the vertebral bodies that were found, in the colour of their grade.",
    table="Vertebrae that stand out",
    level="Level",
    finding="Finding",
    grade="Grade",
    loss="Loss of height",
    heights="Height front / middle / back",
    rest="Measured, nothing that stands out: {levels}.",
    not_judged="Could not be judged",
    remarks="To be borne in mind",
    how_to_read="Grade (Genant): how much of its height a vertebral body has lost.",
    grades=("0 normal", "1 mild", "2 moderate", "3 severe", "not graded"),
    disclaimer=(
        "Output of artificial intelligence that was not validated clinically and is no medical device. "
        "It is no diagnosis: to be checked on the images by a physician."
    ),
    made_by="Made by {node}; models: {models}.",
)

GERMAN: Final = PageWords(
    title="Wirbelkörper: Auswertung durch künstliche Intelligenz",
    research_use="NUR FÜR FORSCHUNGSZWECKE",
    name="Patient",
    birth_date="Geburtsdatum",
    sex="Geschlecht",
    sexes={"F": "weiblich", "M": "männlich", "O": "divers"},
    patient_id="Patienten-ID",
    accession="Auftragsnummer",
    study_date="Untersuchungsdatum",
    examined="Untersucht",
    modalities={"CT": "Computertomographie", "MR": "Magnetresonanztomographie", "": "Röntgenaufnahme"},
    images="{count} Bilder",
    one_image="1 Bild",
    impression="Beurteilung",
    fractured="Wirbel, die gebrochen erscheinen: {levels}.",
    one_fractured="Ein Wirbel erscheint gebrochen: {levels}.",
    malignant="Möglicherweise tumorös und zuerst anzusehen: {levels}.",
    unbroken="Kein Wirbel erscheint gebrochen.",
    nothing="In den Bildern wurde kein Wirbel gefunden.",
    refused="Die Bilder konnten nicht ausgewertet werden.",
    picture="Umrandet: die gefundenen Wirbelkörper in der Farbe ihres Grades.",
    table="Auffällige Wirbel",
    level="Höhe",
    finding="Befund",
    grade="Grad",
    loss="Höhenverlust",
    heights="Höhe vorn / Mitte / hinten",
    rest="Vermessen und unauffällig: {levels}.",
    not_judged="Nicht beurteilbar",
    remarks="Zu beachten",
    how_to_read="Grad (Genant): wie viel Höhe ein Wirbelkörper verloren hat.",
    grades=("0 normal", "1 leicht", "2 mäßig", "3 schwer", "ohne Grad"),
    disclaimer=(
        "Ausgabe einer künstlichen Intelligenz, die nicht klinisch validiert und kein Medizinprodukt ist. "
        "Keine Diagnose: ärztlich an den Bildern zu prüfen."
    ),
    made_by="Erstellt von {node}; Modelle: {models}.",
)

FRENCH: Final = PageWords(
    title="Corps vertébraux : lecture par intelligence artificielle",
    research_use="POUR LA RECHERCHE UNIQUEMENT",
    name="Patient",
    birth_date="Date de naissance",
    sex="Sexe",
    sexes={"F": "féminin", "M": "masculin", "O": "autre"},
    patient_id="Identifiant du patient",
    accession="Numéro d'examen",
    study_date="Date de l'examen",
    examined="Examen",
    modalities={"CT": "Tomodensitométrie", "MR": "Imagerie par résonance magnétique", "": "Radiographie"},
    images="{count} images",
    one_image="1 image",
    impression="Conclusion",
    fractured="Vertèbres d'aspect fracturé : {levels}.",
    one_fractured="Une vertèbre d'aspect fracturé : {levels}.",
    malignant="Possible tumeur, à regarder en premier : {levels}.",
    unbroken="Aucune vertèbre d'aspect fracturé.",
    nothing="Aucune vertèbre n'a été trouvée sur les images.",
    refused="Les images n'ont pas pu être analysées.",
    picture="Contours : les corps vertébraux trouvés, dans la couleur de leur grade.",
    table="Vertèbres remarquables",
    level="Niveau",
    finding="Constatation",
    grade="Grade",
    loss="Perte de hauteur",
    heights="Hauteur avant / milieu / arrière",
    rest="Mesurées, sans particularité : {levels}.",
    not_judged="Non évaluable",
    remarks="À prendre en compte",
    how_to_read="Grade (Genant) : part de la hauteur perdue par un corps vertébral.",
    grades=("0 normal", "1 léger", "2 modéré", "3 sévère", "sans grade"),
    disclaimer=(
        "Résultat d'une intelligence artificielle non validée cliniquement, "
        "qui n'est pas un dispositif médical. "
        "Ce n'est pas un diagnostic : à vérifier sur les images par un médecin."
    ),
    made_by="Établi par {node} ; modèles : {models}.",
)

SPANISH: Final = PageWords(
    title="Cuerpos vertebrales: lectura por inteligencia artificial",
    research_use="SOLO PARA INVESTIGACIÓN",
    name="Paciente",
    birth_date="Fecha de nacimiento",
    sex="Sexo",
    sexes={"F": "femenino", "M": "masculino", "O": "otro"},
    patient_id="Identificador del paciente",
    accession="Número de estudio",
    study_date="Fecha del estudio",
    examined="Examinado",
    modalities={"CT": "Tomografía computarizada", "MR": "Resonancia magnética", "": "Radiografía"},
    images="{count} imágenes",
    one_image="1 imagen",
    impression="Conclusión",
    fractured="Vértebras de aspecto fracturado: {levels}.",
    one_fractured="Una vértebra de aspecto fracturado: {levels}.",
    malignant="Posible tumor, debe revisarse primero: {levels}.",
    unbroken="Ninguna vértebra parece fracturada.",
    nothing="No se encontró ninguna vértebra en las imágenes.",
    refused="No fue posible analizar las imágenes.",
    picture="Contornos: los cuerpos vertebrales encontrados, en el color de su grado.",
    table="Vértebras llamativas",
    level="Nivel",
    finding="Hallazgo",
    grade="Grado",
    loss="Pérdida de altura",
    heights="Altura anterior / media / posterior",
    rest="Medidas, sin nada llamativo: {levels}.",
    not_judged="No evaluable",
    remarks="A tener en cuenta",
    how_to_read="Grado (Genant): cuánta altura ha perdido un cuerpo vertebral.",
    grades=("0 normal", "1 leve", "2 moderado", "3 grave", "sin grado"),
    disclaimer=(
        "Resultado de una inteligencia artificial sin validación clínica, que no es un producto sanitario. "
        "No es un diagnóstico: un médico debe comprobarlo en las imágenes."
    ),
    made_by="Elaborado por {node}; modelos: {models}.",
)

WORDS: Final[Mapping[str, PageWords]] = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}
"""By RFC 5646 tag."""
